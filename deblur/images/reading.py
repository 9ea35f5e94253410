"""Reading pictures: headers, and pixels by bands of rows.

Pillow keeps 4 bytes a pixel. Its pixels are taken over in bands of about a million, straight into
the upright array, so that 4 + 3 bytes a pixel are held at once and 3 in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile

from deblur.images.colours import to_srgb
from deblur.images.formats import TRUSTED, Limits
from deblur.images.metadata import colours_of, exif_of, kept_exif, orientation_of
from deblur.images.opening import frames_of, opened_picture
from deblur.images.picture import Picture

if TYPE_CHECKING:
    from upath import UPath

_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
_RGB_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr"}
_BAND = 2**20  # pixels

#: From the upright array to a view of it in the order in which the file stores it, by EXIF's
#: orientation (EXIF 2.32, 4.6.4).
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 1)[:, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Header:
    """What is known of a picture without decoding it.

    Attributes:
        width, height: in pixels, upright. Of a PNG whose EXIF lies behind its pixels, as stored.
        format: a key of ``FORMATS``.
        frames: frames or pages; of a TIFF with several, 2.
    """

    width: int
    height: int
    format: str
    frames: int = 1

    @property
    def megapixels(self) -> float:
        """Width times height, in 10^6."""
        return self.width * self.height / 1e6


def read_header(
    source: "bytes | Path | UPath",
    limits: Limits = Limits(),
    name: str | None = None,
    first_frame: bool = False,
) -> Header:
    """Tell from the header what ``read_picture`` with the same arguments would read.

    Args:
        source: the encoded bytes, or a file.
        limits: what is accepted.
        name: what errors call it; by default the file's name.
        first_frame: accept several frames or pages.

    Raises:
        PictureTooLargeError: more bytes or pixels than the limits allow.
        PictureError: not a picture, not an accepted format, or of several frames.
    """
    with opened_picture(source, limits, _name_of(source, name), first_frame) as (opened, format):
        width, height = opened.size
        if orientation_of(exif_of(opened, decodes=False)) in _SIDEWAYS:
            width, height = height, width
        return Header(width, height, format, frames_of(opened))


def read_picture(
    source: bytes | Path,
    limits: Limits = Limits(),
    name: str | None = None,
    first_frame: bool = False,
) -> Picture:
    """Decode one picture.

    Args:
        source: the encoded bytes, or a file.
        limits: what is accepted.
        name: what errors call it; by default the file's name.
        first_frame: of several frames or pages take the first (of a HEIC file its primary picture),
            instead of refusing them.

    Raises:
        PictureTooLargeError: more bytes or pixels than the limits allow.
        PictureError: not a picture, not an accepted format, damaged, or of several frames.
    """
    with opened_picture(source, limits, _name_of(source, name), first_frame) as (opened, format):
        return _decoded(opened, format)


def read_rgb(file: "Path | UPath") -> np.ndarray:
    """``[H, W, 3]`` uint8 of a file, by the same policy, with a wide limit for trusted data."""
    if isinstance(file, Path):
        return read_picture(file, TRUSTED).rgb
    return decode_rgb(file.read_bytes(), str(file))


def decode_rgb(encoded: bytes, name: str) -> np.ndarray:
    """``[H, W, 3]`` uint8 of a trusted file's bytes; ``name`` is what errors call it."""
    return read_picture(encoded, TRUSTED, name).rgb


def read_size(source: "bytes | Path | UPath", name: str | None = None) -> tuple[int, int]:
    """Height and width of what ``read_rgb`` returns, from the header alone.

    Args:
        source: a file, or its bytes.
        name: what errors call it; by default the file's name.

    Raises:
        PictureError: it cannot be opened.
    """
    header = read_header(source, TRUSTED, name)
    return header.height, header.width


def _name_of(source: "bytes | Path | UPath", name: str | None) -> str:
    return name or ("the picture" if isinstance(source, bytes) else str(source))


def _decoded(opened: ImageFile.ImageFile, format: str) -> Picture:
    exif = exif_of(opened)  # a TIFF's is read from the file, which loading closes
    opened.load()
    width, height = opened.size
    orientation = orientation_of(exif)
    shape = (width, height) if orientation in _SIDEWAYS else (height, width)
    grey = opened.mode in _GREY_MODES
    # Scaled 16-bit grey has no colour left that could mean transparent.
    has_alpha = opened.has_transparency_data and not opened.mode.startswith("I")
    profile = opened.info.get("icc_profile")
    to_rgb = _conversion(opened.mode, profile)

    rgb = np.empty((*shape, 3), dtype=np.uint8)
    alpha = np.empty(shape, dtype=np.uint8) if has_alpha else None
    stored = _STORED[orientation](rgb)
    stored_alpha = None if alpha is None else _STORED[orientation](alpha)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = opened.crop((0, top, width, min(top + rows, height)))
        if stored_alpha is None:
            stored[top : top + rows] = to_rgb(band)
        else:
            pixels = np.asarray(_rgba(band))
            stored[top : top + rows] = pixels[..., :3]
            stored_alpha[top : top + rows] = pixels[..., 3]
    # A profile of other colours does not describe the pixels that are written.
    colours = "GRAY" if grey else "RGB" if opened.mode in _RGB_MODES else None
    return Picture(
        rgb=rgb,
        alpha=alpha,
        grey=grey,
        format=format,
        icc=profile if colours_of(profile) == colours else None,
        exif=kept_exif(exif),
    )


def _conversion(mode: str, profile: object) -> Callable[[Image.Image], np.ndarray]:
    """From a band of a mode to ``[H, W, 3]`` uint8, or ``[H, W, 1]`` for grey."""
    if mode == "RGB":
        return np.asarray
    if mode == "L":
        return lambda band: np.asarray(band)[..., None]
    if mode.startswith("I"):
        return lambda band: _scaled(np.asarray(band))[..., None]
    if mode == "CMYK" and isinstance(profile, bytes) and colours_of(profile) == "CMYK":
        convert = to_srgb(profile, mode)
        if convert is not None:
            return lambda band: np.asarray(convert(band))
    return lambda band: np.asarray(band.convert("RGB"))


def _rgba(band: Image.Image) -> Image.Image:
    return (band.convert("LA") if band.mode == "La" else band).convert("RGBA")


def _scaled(values: np.ndarray) -> np.ndarray:
    """16 bit to 8, rounded; Pillow's own conversion of 16-bit grey would clip."""
    return ((values.clip(0, 65535).astype(np.int32) + 128) // 257).astype(np.uint8)
