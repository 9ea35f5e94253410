"""What is measured on a pair, before anything is judged."""

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deblur.data.journal import Journal, read_journal
from deblur.data.listing import Pair
from deblur.data.storage import Location, reachable
from deblur.data.validation.alignment import align, box_reduced
from deblur.data.validation.fingerprint import fingerprint
from deblur.errors import PictureError
from deblur.images import decode_rgb
from deblur.metrics import psnr

#: Raised whenever the same pictures give other values than before, so that none are taken over.
MEASURES_VERSION = 1
MEASURES = "measures.jsonl"
_KEPT_AS = ("measures", MEASURES_VERSION)
PLAIN = "RGB, 8 bit"
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: JPEG leaves clipped pixels a little below 255.
_CLIPPED = 253
#: Names of Pillow's modes.
_STORED = {
    "1": "black and white", "L": "grey, 8 bit", "LA": "grey with alpha", "La": "grey with alpha",
    "P": "a palette", "PA": "a palette with alpha", "RGB": PLAIN, "RGBA": "RGB with alpha",
    "RGBa": "RGB with alpha", "RGBX": PLAIN, "CMYK": "CMYK", "F": "grey, floating point",
    "LAB": "CIE Lab", "YCbCr": "YCbCr", "HSV": "HSV",
}  # fmt: skip


@dataclass(frozen=True)
class PictureMeasures:
    """One picture. What could not be measured is empty, 0 or ``None``; then ``error`` says why.

    Attributes:
        sha256: digest of the file.
        pixels: digest of the decoded pixels and their size.
        width, height: upright, in pixels.
        stored: how the file holds its pixels, ``RGB, 8 bit`` or what was converted to it.
        level: mean luma, 0 to 255, and ``contrast``, its standard deviation.
        saturated: share of pixels that are white to within JPEG's error.
        sharpness: root mean square gradient of the luma after a 2x2 box reduction, which takes
            off most of the sensor's noise; in levels per pixel. Gradient energy: Pertuz, Puig and
            Garcia, "Analysis of focus measure operators for shape-from-focus", Pattern
            Recognition 2013, appendix A.
        error: why the picture cannot be read.
    """

    sha256: str = ""
    pixels: str = ""
    width: int = 0
    height: int = 0
    stored: str = ""
    level: float = 0.0
    contrast: float = 0.0
    saturated: float = 0.0
    sharpness: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class PairMeasures:
    """One pair.

    Attributes:
        blur, sharp: the two pictures.
        fingerprint: of the sharp picture (``fingerprint.py``); empty if it cannot be read.
        psnr: of the blurred picture against the sharp one in dB; ``None`` where their sizes differ
            or they are equal.
        shift: ``(dx, dy)`` in pixels, ``similarity`` 0 to 1, as ``alignment.Alignment``; ``None``
            where they cannot be told.
    """

    blur: PictureMeasures
    sharp: PictureMeasures
    fingerprint: str = ""
    psnr: float | None = None
    shift: tuple[float, float] | None = None
    similarity: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, as ``from_json`` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PairMeasures":
        """What ``as_json`` gave, after a way through JSON."""
        shift = values["shift"]
        return cls(
            blur=PictureMeasures(**values["blur"]),
            sharp=PictureMeasures(**values["sharp"]),
            fingerprint=values["fingerprint"],
            psnr=values["psnr"],
            shift=None if shift is None else (shift[0], shift[1]),
            similarity=values["similarity"],
        )


def open_measures(folder: Path) -> Journal[PairMeasures]:
    """The measures that are kept in the folder of a report."""
    return Journal(folder / MEASURES, *_KEPT_AS, PairMeasures.from_json, PairMeasures.as_json)


def read_measures(folder: Path) -> list[PairMeasures]:
    """Those of an earlier validation; empty if there are none."""
    known = read_journal(folder / MEASURES, *_KEPT_AS, PairMeasures.from_json)
    return [measures for _, measures in known.values()]


def measure(pair: Pair) -> PairMeasures:
    """Read both pictures once and measure them. Damaged or missing files are a finding, no error.

    Raises:
        DataError: the store cannot be reached.
    """
    blur, blurred = _picture(pair.blur)
    sharp, original = _picture(pair.sharp)
    mark = ""
    value = None
    alignment = None
    if original is not None:
        sharp_grey = luma(original)
        mark = fingerprint(sharp_grey)
        if blurred is not None and blurred.shape == original.shape:
            found = psnr(blurred, original)
            value = round(found, 4) if np.isfinite(found) else None
            alignment = align(luma(blurred), sharp_grey)
    return PairMeasures(
        blur=blur,
        sharp=sharp,
        fingerprint=mark,
        psnr=value,
        shift=(round(alignment.dx, 3), round(alignment.dy, 3)) if alignment else None,
        similarity=round(alignment.similarity, 4) if alignment else None,
    )


def _picture(file: Location) -> tuple[PictureMeasures, np.ndarray | None]:
    """The measures of one picture, and its pixels if it can be read."""
    try:
        with reachable(file):
            encoded = file.read_bytes()
    except FileNotFoundError:
        return PictureMeasures(error=f"{file} does not exist: expected a picture file"), None
    except OSError as error:
        said = error.strerror or type(error).__name__
        return PictureMeasures(error=f"{file} cannot be read ({said}): expected a file"), None
    sha256 = hashlib.sha256(encoded).hexdigest()
    try:
        rgb = decode_rgb(encoded, str(file))
    except PictureError as error:
        return PictureMeasures(sha256=sha256, error=str(error)), None
    grey = luma(rgb)
    # Eight times as fast as the minimum along the last axis.
    least = np.minimum(np.minimum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    pixels = hashlib.sha256(str(rgb.shape).encode())
    pixels.update(np.ascontiguousarray(rgb).data)
    return PictureMeasures(
        sha256=sha256,
        pixels=pixels.hexdigest(),
        width=rgb.shape[1],
        height=rgb.shape[0],
        stored=_stored(encoded),
        level=round(float(grey.mean(dtype=np.float64)), 3),
        contrast=round(float(grey.std(dtype=np.float64)), 3),
        saturated=round(float((least >= _CLIPPED).mean()), 4),
        sharpness=round(sharpness(grey), 3),
    ), rgb


def luma(rgb: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 to ``[H, W]`` float32 in 0..255, by the weights of ITU-R BT.601."""
    return rgb @ _LUMA


def sharpness(grey: np.ndarray) -> float:
    """As ``PictureMeasures`` has it, of a luma ``[H, W]``."""
    small = box_reduced(grey, 2)
    if min(small.shape) < 2:
        return 0.0
    down, right = np.diff(small, axis=0)[:, :-1], np.diff(small, axis=1)[:-1]
    return float(np.sqrt(np.mean(down**2 + right**2, dtype=np.float64)))


def _stored(encoded: bytes) -> str:
    """How a readable file holds its pixels, told from its header."""
    with Image.open(io.BytesIO(encoded)) as opened:
        mode, transparent = opened.mode, opened.has_transparency_data
        # Pillow opens these as 8 bit.
        deep = opened.format == "PNG" and encoded[24] == 16
    if mode.startswith("I"):
        return "grey, 16 bit"
    stored = _STORED.get(mode, mode)
    if transparent and "alpha" not in stored:
        stored = f"{stored} with alpha" if mode != "RGB" else "RGB with alpha"
    return f"{stored.removesuffix(', 8 bit')}, 16 bit" if deep else stored
