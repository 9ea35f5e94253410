"""Before/after sheets: blurred, deblurred and sharp side by side, with their PSNR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur.metrics import psnr

_CROP = 224
_PANEL = 336
_GAP = 8
_HEAD = 30
_PAPER, _INK, _GAIN = (250, 250, 248), (40, 40, 44), (0, 110, 60)


@dataclass(frozen=True)
class SheetRow:
    """One picture: ``[H, W, 3]`` uint8 each."""

    title: str
    blurred: np.ndarray
    restored: np.ndarray
    sharp: np.ndarray


def before_after_sheet(rows: Sequence[SheetRow], footer: str = "") -> Image.Image:
    """A row a picture, each panel the same detail enlarged; the figures are of whole pictures.

    The detail is the square of the sharp picture with the strongest contrast: chosen without
    looking at the result.
    """
    font = ImageFont.load_default(15)
    width = 3 * _PANEL + 4 * _GAP
    height = len(rows) * (_PANEL + _HEAD + _GAP) + _GAP + (_HEAD if footer else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _GAP + number * (_PANEL + _HEAD + _GAP)
        before, after = psnr(row.blurred, row.sharp), psnr(row.restored, row.sharp)
        titles = (
            f"{row.title}: blurred, {before:.2f} dB",
            f"deblurred, {after:.2f} dB ({after - before:+.2f})",
            "sharp original",
        )
        box = strongest_detail(row.sharp, _CROP)
        for column, pixels in enumerate((row.blurred, row.restored, row.sharp)):
            left = _GAP + column * (_PANEL + _GAP)
            ink = _GAIN if column == 1 and after > before else _INK
            pen.text((left, top + 6), titles[column], fill=ink, font=font)
            crop = Image.fromarray(pixels[box])
            scale = _PANEL / max(crop.size)
            size = (round(crop.width * scale), round(crop.height * scale))
            sheet.paste(crop.resize(size, Image.Resampling.BICUBIC), (left, top + _HEAD))
    if footer:
        pen.text((_GAP, height - _HEAD + 4), footer, fill=_INK, font=font)
    return sheet


def strongest_detail(sharp: np.ndarray, side: int) -> tuple[slice, slice]:
    """Rows and columns of the square of ``side`` pixels (or the picture's) whose absolute gradients
    add up to most, in a picture ``[H, W, 3]``."""
    grey = sharp.mean(axis=2)
    energy = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(
        np.diff(grey, axis=1, append=grey[:, -1:])
    )
    height, width = grey.shape
    h, w = min(side, height), min(side, width)
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(top), int(top) + h), slice(int(left), int(left) + w)
