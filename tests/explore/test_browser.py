"""The live page and the page on windows, used in a browser: drawing, clicking, shifting, by the keyboard alone."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from launching import REPOSITORY

import cnn_jax
from cnn_jax.explore import pages

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
pytest.importorskip("starlette", reason="needs the extra explore: pip install '.[explore]'")

from cnn_jax.explore.scene import Scene  # noqa: E402
from cnn_jax.explore.server import serving  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium: apt-get install chromium")]
COMBINATIONS = 1000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A page on which nothing may fail."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    failed = []
    opened.on("pageerror", lambda error: failed.append(str(error)))
    refused = "400 (Bad Request)"  # what a test asks for that cannot be done
    opened.on(
        "console", lambda line: failed.append(line.text) if line.type == "error" and refused not in line.text else 0
    )
    yield opened
    opened.close()
    assert failed == []


@pytest.fixture(scope="module")
def networks():
    return {"lenet5_mnist": cnn_jax.load("lenet5_mnist"), "lenet_mnist": cnn_jax.load("lenet_mnist")}


@pytest.fixture(scope="module")
def address(networks):
    with serving(Scene({"lenet5_mnist": networks["lenet5_mnist"]}), 0) as url:
        yield url


@pytest.fixture(scope="module")
def both(networks):
    with serving(Scene(networks), 0) as url:
        yield url


def until(page, condition):
    """Waits; not by `wait_for_function`, whose code the page's own policy refuses."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"not so within ten seconds: {condition}")


def settled(page):
    until(page, "looked !== null && !busy && !waiting")


def titled(page, start):
    until(page, f"document.getElementById('unit-title').textContent.startsWith('{start}')")


def open_page(page, url):
    page.goto(url)
    settled(page)
    page.click("#clear")
    settled(page)


def draw_one(page):
    box = page.locator("#image").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.move(*at(0.5, 0.2))
    page.mouse.down()
    page.mouse.move(*at(0.48, 0.8), steps=12)
    page.mouse.up()
    settled(page)


def shown(page):
    return np.array(page.evaluate("Array.from(pixels())"), np.uint8).reshape(28, 28, 1)


# The page on windows.


def combination(draw):
    return {
        "numbers": draw.integers(0, 10, [int(draw.choice([1, 3, 6, 7]))] * 2).tolist(),
        "window": int(draw.integers(1, 5)),
        "stride": int(draw.integers(1, 4)),
        "dilation": int(draw.choice([1, 1, 2, 3])),
        "mode": str(draw.choice(["valid", "same", "full", "custom"])),
        "rows": draw.integers(0, 4, 2).tolist(),
        "columns": draw.integers(0, 4, 2).tolist(),
        "fill": str(draw.choice(["left out", "zero", "reflect", "replicate", "circular", "symmetric"])),
        "kind": str(draw.choice(["max", "average", "min"])),
    }


def by_the_library(case):
    """What the library makes of it, None where it refuses; windows with holes, which it has not, are JAX's own."""
    numbers = np.array(case["numbers"], np.float32)
    reach = case["dilation"] * (case["window"] - 1) + 1
    padding = ",".join(map(str, case["rows"] + case["columns"])) if case["mode"] == "custom" else case["mode"]
    pooled = {"kind": case["kind"], "window": case["window"], "stride": case["stride"]}
    try:
        if case["fill"] == "left out" and case["dilation"] == 1:
            return cnn_jax.pool(numbers, padding=padding, **pooled)
        fill = "zero" if case["fill"] == "left out" else case["fill"]
        padded = cnn_jax.pad(numbers, padding, fill, window=reach, stride=case["stride"])
        if case["dilation"] == 1:
            return cnn_jax.pool(padded, **pooled)
    except cnn_jax.UserError:
        return None
    inside = cnn_jax.pad(np.ones_like(numbers), padding, "zero", window=reach, stride=case["stride"])
    if case["fill"] != "left out":
        inside = np.ones_like(padded)
    if min(padded.shape) < reach:
        return None
    start = {"max": -jnp.inf, "min": jnp.inf, "average": 0.0}[case["kind"]]
    combine = {"max": lax.max, "min": lax.min, "average": lax.add}[case["kind"]]
    sides = [case["window"]] * 2, [case["stride"]] * 2
    over = lambda x: lax.reduce_window(jnp.asarray(x), start, combine, *sides, "VALID", None, [case["dilation"]] * 2)
    if case["kind"] == "average":
        return np.asarray(over(padded * inside) / over(inside))
    return np.asarray(over(np.where(inside > 0, padded, start)))


def test_windows_are_the_librarys_in_a_thousand_combinations(page):
    draw = np.random.default_rng(0)
    cases = [combination(draw) for _ in range(COMBINATIONS)]
    page.set_content(pages.windows())
    values = "made => made.error ? null : made.output.map(row => row.map(each => each.value))"
    found = page.evaluate(f"cases => cases.map(Windows.compute).map({values})", cases)
    refused = 0
    for case, ours in zip(cases, found):
        theirs = by_the_library(case)
        if theirs is None or not np.all(np.isfinite(theirs)):  # windows that read nothing
            refused += 1
            assert ours is None, case
        elif ours is None:  # what the library refuses of windows without holes: padding as large as the window
            reach = case["dilation"] * (case["window"] - 1) + 1
            assert case["fill"] == "left out" and max(case["rows"] + case["columns"]) >= reach and case["dilation"] > 1
        else:
            np.testing.assert_allclose(np.array(ours, float), theirs, rtol=1e-5, err_msg=str(case))
    assert refused < COMBINATIONS / 2


def test_windows_by_hand_and_by_keyboard(page):
    page.set_content(pages.windows())
    page.select_option("#mode", "valid")
    page.fill("#size", "5")
    page.fill("#window", "2")
    page.fill("#stride", "2")
    assert page.inner_text("#output-size") == "2 × 2" and "= 2.5, whole 2" in page.inner_text("#sizes")
    assert page.locator("#padded .unread").count() == 9  # the last row and column of five
    page.locator("#output .chosen").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#arithmetic").startswith("row 2, column 2: max(")
    read = page.locator("#padded .read").evaluate_all("all => all.map(each => each.dataset.place)")
    assert read == ["2,2", "2,3", "3,2", "3,3"]
    before = page.evaluate("result.output[1][1].values[0]")
    page.locator('#padded [data-place="2,2"]').click()
    assert page.evaluate("result.output[1][1].values[0]") == (before + 1) % 10
    page.select_option("#mode", "custom")
    page.select_option("#fill", "reflect")
    page.fill("#top", "8")
    assert "can add at most 4 pixels" in page.inner_text("#error") and page.locator("#shown").is_hidden()


# The live page.


def test_what_is_drawn_is_answered(page, address, networks):
    open_page(page, address)
    draw_one(page)
    image = shown(page)
    assert image.max() == 255 and 20 < (image > 0).sum() < 200
    expected = networks["lenet5_mnist"].predict(image[None])
    assert expected.names[0] == "1" and page.inner_text(".answers .best") == "1"
    np.testing.assert_allclose(page.evaluate("looked[0].probabilities"), expected.probabilities[0], atol=1e-4)
    page.click("#rubber")
    draw_one(page)
    assert shown(page).max() < 70  # the pen's edge is soft, and so is the rubber's
    page.click("#clear")
    settled(page)
    assert shown(page).max() == 0


def test_a_click_explains_a_number(page, address, networks):
    open_page(page, address)
    draw_one(page)
    tile = page.locator('.maps[data-layer="c3"] .tile').nth(6)  # reads the first four maps of S2
    box = tile.bounding_box()
    tile.click(position={"x": box["width"] * 0.45, "y": box["height"] * 0.55})  # column 4, row 5 of ten
    page.wait_for_selector("#unit:not([hidden])")
    value = networks["lenet5_mnist"](shown(page)[None])[1]["c3"][0, 5, 4, 6]
    title = page.inner_text("#unit-title")
    assert title.startswith("c3, map 6, row 5, column 4: ") and float(title.rpartition(" ")[2]) == pytest.approx(
        value, rel=1e-3
    )
    lines = page.inner_text("#unit-lines")
    assert "sum of 100 products, of 4 maps" in lines and "plus the bias" in lines and "1.7159 tanh(2x/3)" in lines
    marked = page.locator('.maps[data-layer="s2"] .tile').evaluate_all(
        "all => all.map(e => e.querySelector('.mark')?.style.top)"
    )
    assert [each is not None for each in marked] == [True] * 4 + [False] * 2
    assert float(marked[0].rstrip("%")) == pytest.approx(100 * 5 / 14, rel=1e-3)
    page.locator('.maps[data-layer="f6"] .tile').click()
    titled(page, "f6")
    assert "The eight largest of 120 products" in page.inner_text("#unit-inputs")
    page.click("#close")
    assert page.locator("#unit").is_hidden() and page.locator(".mark").count() == 0


def test_shifting_moves_the_image_and_plots_the_answer(page, address):
    open_page(page, address)
    draw_one(page)
    before = shown(page)
    page.locator("#image").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        settled(page)
    moved = np.zeros_like(before)
    moved[1:, 2:] = before[:-1, :-2]
    np.testing.assert_array_equal(shown(page), moved)
    assert page.locator("#trace circle").count() == 4
    assert page.inner_text("#shift") == "2 to the right, 1 down"
    assert "Probability of 1, after each of 3 shifts" in page.inner_text("#trace-note")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        settled(page)
    np.testing.assert_array_equal(shown(page), before)  # nothing was lost at the edge


def test_evidence_and_pictures(page, address, tmp_path):
    open_page(page, address)
    page.set_input_files("#file", str(REPOSITORY / "docs" / "report.png"))
    until(page, "document.getElementById('said').textContent.startsWith('report.png')")
    page.click("#evidence")
    page.wait_for_selector(".evidence figure")
    assert page.locator(".evidence figcaption").all_inner_texts() == [
        "occlusion",
        "gradient times input",
        "class activation",
    ]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with page.expect_response("**/picture") as answer:
        page.set_input_files("#file", str(broken))
    assert answer.value.status == 400
    page.wait_for_selector("#error:not([hidden])")
    assert "the picture" in page.inner_text("#error")


def test_by_the_keyboard_alone(page, address):
    page.goto(address)
    settled(page)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.layer || ''"))
        if reached[-1] == "c1":
            break
    for name in ("tab-network", "image", "pen", "rubber", "clear", "open", "evidence", "c1"):
        assert name in reached, reached
    page.keyboard.press("Enter")
    titled(page, "c1, map 0, row 14, column 14")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(".")
    titled(page, "c1, map 1, row 14, column 15")
    page.keyboard.press("Escape")
    assert page.locator("#unit").is_hidden()
    page.locator("#tab-network").focus()
    page.keyboard.press("ArrowRight")
    page.frame_locator("#windows iframe").locator("#output .chosen").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_two_networks_side_by_side(page, both, width):
    page.set_viewport_size({"width": width, "height": 900})
    open_page(page, both)
    draw_one(page)
    assert page.locator(".answers .best").all_inner_texts() == ["1", "1"]
    left, right = (page.locator(f'.layers[data-network="{number}"]').bounding_box() for number in (0, 1))
    assert (right["x"] > left["x"]) == (width > 700) and (right["y"] > left["y"]) == (width < 700)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator('.maps[data-network="1"][data-layer="pool1"] .tile').first.click()
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("#unit-title").startswith("lenet_mnist: pool1") and "max(" in page.inner_text("#unit-lines")


def test_dark_and_light(browser, address):
    grounds = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        settled(page)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert grounds[0] == "rgb(255, 255, 255)" and grounds[1] == "rgb(20, 24, 28)"
