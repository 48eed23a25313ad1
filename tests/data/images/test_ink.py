"""Photographs of digits, as people take them, are read as the drawing itself is."""

import io

import numpy as np
import photographs
import pytest
from PIL import Image
from tiny_images import encoded

import cnn_jax
from cnn_jax.data.datasets import builders
from cnn_jax.data.images import ink, pictures
from cnn_jax.data.images.reader import Reading
from cnn_jax.errors import UserError

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def digits():
    """The 360 test digits, uint8 [N, 28, 28], and their labels."""
    images, labels = builders.digits_arrays()["test"]
    return images[..., 0], labels


def read(tmp_path, content):
    (tmp_path / "photo").write_bytes(content)
    return pictures.read_picture(str(tmp_path / "photo"), SHAPE, Reading(channels=1), drawn=True)


@pytest.mark.parametrize("kind", photographs.KINDS)
def test_a_photograph_gives_the_drawing(tmp_path, digits, kind):
    """As like the stored digit as what the clean drawing gives, or nearly."""
    draw, likeness = np.random.default_rng(5), []
    for digit in digits[0][:12]:
        pixels = read(tmp_path, photographs.photograph(digit, kind, draw)).pixels[..., 0]
        likeness.append(np.corrcoef(pixels.reshape(-1), centred(digit).reshape(-1))[0, 1])
    assert np.median(likeness) > 0.9 and np.mean(np.array(likeness) > 0.75) > 0.9


def centred(digit):
    """What the clean drawing gives at eight times its size, without a camera."""
    large = Image.fromarray(255 - digit).resize((224, 224), Image.Resampling.BICUBIC)
    return pictures._centred(ink.find(np.asarray(large)).strength, SHAPE[:2])


@pytest.mark.slow
def test_a_network_reads_photographs_as_it_reads_digits(tmp_path, digits):
    images, labels = digits[0][:100], digits[1][:100]
    run = cnn_jax.Run(cnn_jax.settings("lenet_digits", "train.duration=20 epochs"), tmp_path / "run")
    run.train(progress=False)
    answers = lambda pixels: run.predict(np.stack(pixels)).probabilities.argmax(-1)
    right = lambda found: np.mean(found == labels)
    clean = [
        read(tmp_path, photographs.photograph(digit, "clean", np.random.default_rng(3))).pixels for digit in images
    ]
    as_drawn = right(answers(clean))
    for kind in photographs.KINDS:
        draw = np.random.default_rng(7)
        found = [read(tmp_path, photographs.photograph(digit, kind, draw)).pixels for digit in images]
        assert right(answers(found)) > as_drawn - 0.07, kind  # a share of 100 has a standard error of some 0.025


def test_drawings_of_the_stored_size_on_another_ground_are_treated_like_any_other(tmp_path, digits):
    draw = np.random.default_rng(5)
    for digit in digits[0][:10]:
        same, larger = (read(tmp_path, photographs.small(digit, draw, side)) for side in (28, 29))
        assert "resized to 28x28" in same.changes and same.pixels[0].max() == 0
        assert np.corrcoef(same.pixels.reshape(-1), larger.pixels.reshape(-1))[0, 1] > 0.85


def test_what_may_mislead_is_said(tmp_path):
    page = np.full((300, 300), 230, np.uint8)
    page[100:200, 60:90] = page[100:200, 210:240] = 30
    assert read(tmp_path, encoded(Image.fromarray(page), "png")).warnings == (
        "2 large pieces of ink far from each other, of which the largest counts",
    )
    page = np.full((300, 300), 230, np.uint8)
    page[100:, 130:160] = 30
    assert read(tmp_path, encoded(Image.fromarray(page), "png")).warnings == ("ink touches the border",)
    page = np.full((300, 300), 230, np.uint8)
    for row in range(20, 280, 40):
        page[row : row + 24, 10:290] = 30
    assert any(line.startswith("ink covers") for line in read(tmp_path, encoded(Image.fromarray(page), "png")).warnings)


def test_long_and_narrow_pictures_take_no_more_memory(tmp_path):
    strip = np.full((2, 60_000), 230, np.uint8)
    strip[:, 30_000:30_100] = 20
    with pytest.raises(UserError, match="no ink stands out"):  # it is a tenth of a pixel high at the size for looking
        read(tmp_path, encoded(Image.fromarray(strip), "png"))


def test_bright_ink_on_a_dark_board(tmp_path, digits):
    draw = np.random.default_rng(5)
    for digit in digits[0][:10]:
        content = np.asarray(Image.open(io.BytesIO(photographs.photograph(digit, "clean", draw))).convert("L"))
        dark, bright = (read(tmp_path, encoded(Image.fromarray(each), "png")) for each in (content, 255 - content))
        assert np.corrcoef(dark.pixels.reshape(-1), bright.pixels.reshape(-1))[0, 1] > 0.9
        assert "bright on dark" in bright.changes and "dark on bright" in dark.changes
