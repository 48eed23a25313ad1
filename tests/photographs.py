"""Photographs of drawn digits as people take them: uneven light, shadows, rules, specks, the edge of the table."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

SIZE = 300  # pixels, of paper


def paper(digit: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A digit, bright on black, uint8 [28, 28], drawn with dark ink on paper; float [SIZE, SIZE], 0 to 255."""
    side = int(draw.integers(170, 230))
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), float) / 255
    ink = np.zeros((SIZE, SIZE))
    top, left = ((SIZE - side) // 2 + draw.integers(-25, 26, 2)).tolist()
    ink[top : top + side, left : left + side] = large
    return draw.uniform(215, 240) * (1 - 0.8 * ink)


def photographed(image: np.ndarray, draw: np.random.Generator) -> bytes:
    """A JPEG of it, with the noise of a camera."""
    noisy = np.clip(image + draw.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).convert("RGB").save(file, "jpeg", quality=88)
    return file.getvalue()


def falling(share):
    def light(image, draw):
        angle = draw.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        along = (np.cos(angle) * rows + np.sin(angle) * columns) / (abs(np.cos(angle)) + abs(np.sin(angle)))
        return image * (1 - share * (along + 1) / 2)

    return light


def vignette(image, draw):
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    return image * (1 - draw.uniform(0.3, 0.4) * (rows**2 + columns**2))


def shadow(image, draw):
    """Of a hand: everything beyond a wavy line is darker, with a soft edge."""
    angle, phase = draw.uniform(0, 2 * np.pi, 2)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    along, across = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
    inside = along + 0.15 * np.sin(4 * across + phase) > draw.uniform(-0.5, 0.5)
    return image * (1 - draw.uniform(0.35, 0.55) * ndimage.gaussian_filter(inside.astype(float), 6))


def ruled(image, draw):
    image, gap = image.copy(), int(draw.integers(22, 34))
    for row in range(int(draw.integers(gap)), SIZE - 2, gap):
        image[row : row + 2] = np.minimum(image[row : row + 2], draw.uniform(130, 170))
    return image


def speck(image, draw):
    image = image.copy()
    rows, columns = np.mgrid[:SIZE, :SIZE]
    corner = draw.integers(0, 2, 2) * (SIZE - 50) + draw.integers(12, 38, 2)
    image[(rows - corner[0]) ** 2 + (columns - corner[1]) ** 2 < draw.uniform(3, 6) ** 2] = 40
    return image


def table(image, draw):
    """A strip of dark wood at an edge."""
    width, turns = int(draw.integers(12, 34)), int(draw.integers(4))
    grain = draw.uniform(45, 80) + ndimage.gaussian_filter(draw.normal(0, 30, (width, SIZE)), (1, 8))
    turned = np.rot90(image, turns).copy()
    turned[:width] = grain
    return np.rot90(turned, -turns)


KINDS = {
    "clean": lambda image, draw: image,
    "light falling by 40 %": falling(0.4),
    "light falling by 60 %": falling(0.6),
    "vignette": vignette,
    "a hand's shadow": shadow,
    "ruled paper": ruled,
    "a speck": speck,
    "a strip of table": table,
}


def photograph(digit: np.ndarray, kind: str, draw: np.random.Generator) -> bytes:
    """A photograph of a drawn digit, uint8 [28, 28], bright on black; one of `KINDS`."""
    return photographed(KINDS[kind](paper(digit, draw), draw), draw)


def small(digit: np.ndarray, draw: np.random.Generator, side: int = 28) -> bytes:
    """A PNG of the same size as the stored digits, or another, with grey ink on grey paper."""
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ground, ink = draw.uniform(170, 235), draw.uniform(20, 80)
    pixels = ground + (ink - ground) * np.asarray(image, float) / 255 + draw.normal(0, 2, (side, side))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "png")
    return file.getvalue()
