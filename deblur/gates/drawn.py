"""Drawn pictures, on which a fault of a model shows by itself. All are ``[H, W, 3]`` uint8."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

BLACK, WHITE, MID_GREY = (0, 0, 0), (255, 255, 255), (128, 128, 128)
#: Colours of flat fields: greys over the whole range, and three hues. Zero in [-1, 1] is a mid
#: grey, so grey fields alone would not show a padding with zeros.
FIELDS: tuple[Colour, ...] = (
    BLACK, (40, 40, 40), MID_GREY, (216, 216, 216), WHITE,
    (200, 40, 40), (60, 160, 60), (50, 90, 200),
)  # fmt: skip
#: Heights of letters in pixels: from the small print of a street sign to a headline.
LETTERS = (10, 14, 20, 32)
#: The two sides of the drawn edges: with room beyond either for what overshoots.
EDGE_LOW, EDGE_HIGH = 64, 192
_LINES = (
    "Motion deblurring 0123456789",
    "the quick brown fox jumps over",
    "WAVE MILK & FIGS 48, 96 (1/250 s)",
)


def flat(height: int, width: int, colour: Colour) -> np.ndarray:
    """One colour everywhere."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def text(ink: Colour = BLACK, paper: Colour = WHITE) -> np.ndarray:
    """Lines of letters of several sizes, in the font that Pillow brings along."""
    page = Image.new("RGB", (448, 304), paper)
    pen = ImageDraw.Draw(page)
    top = 8
    for number, size in enumerate(LETTERS):
        font = ImageFont.load_default(size)
        for line in _LINES[: 3 if number < 3 else 2]:
            pen.text((8, top), line, fill=ink, font=font)
            top += round(1.3 * size)
    return np.asarray(page)


def edges(side: int = 256) -> np.ndarray:
    """A bright square in the middle of a darker field: four straight edges, four corners."""
    picture = flat(side, side, (EDGE_LOW,) * 3)
    picture[side // 4 : -side // 4, side // 4 : -side // 4] = EDGE_HIGH
    return picture


def gradient(height: int = 64) -> np.ndarray:
    """Every level from black to white, two columns each, from left to right."""
    levels = np.repeat(np.arange(256, dtype=np.uint8), 2)
    return np.broadcast_to(levels[None, :, None], (height, 512, 3)).copy()


def noisy(picture: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """``picture`` with Gaussian noise, standard deviation ``sigma`` levels, clamped and rounded."""
    noise = np.random.default_rng(seed).normal(0.0, sigma, picture.shape)
    return np.rint(np.clip(picture + noise, 0, 255)).astype(np.uint8)


def extremes() -> dict[str, np.ndarray]:
    """Pictures at the ends of what there can be: of a pixel, of nine, and with a single one lit."""
    spot, hole = flat(40, 56, BLACK), flat(40, 56, WHITE)
    spot[20, 28], hole[20, 28] = 255, 0
    return {
        "black": flat(40, 56, BLACK),
        "white": flat(40, 56, WHITE),
        "a white pixel on black": spot,
        "a black pixel on white": hole,
        "1x1": flat(1, 1, (255, 0, 128)),
        "3x3": np.arange(27, dtype=np.uint8).reshape(3, 3, 3) * 9,
    }
