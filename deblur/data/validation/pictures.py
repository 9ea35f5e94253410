"""The pictures of a report: small JPEGs inside the page."""

import base64
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deblur.data.storage import location
from deblur.errors import DataError, PictureError
from deblur.images import Picture, encode_picture, read_rgb
from deblur.sheet import strongest_detail

#: Longer side of a whole picture, and side of a detail, in pixels.
_WHOLE, _DETAIL = 320, 240


@dataclass(frozen=True)
class Shown:
    """A picture on the page: ``uri`` is empty where it cannot be shown, and ``label`` says why."""

    label: str
    uri: str = ""


def show_whole(address: str, label: str) -> Shown:
    """The whole picture, reduced."""
    pixels = _read(address)
    return Shown(f"{label}: cannot be read") if pixels is None else Shown(label, _uri(pixels))


def show_detail(blurred: str, sharp: str) -> tuple[Shown, Shown]:
    """The same detail of both pictures at their own scale, where blur and displacement show.

    The detail is that of the sharp picture with the strongest contrast.
    """
    both = _read(blurred), _read(sharp)
    if both[0] is None or both[1] is None or both[0].shape != both[1].shape:
        return show_whole(blurred, "blurred"), show_whole(sharp, "sharp")
    box = strongest_detail(both[1], _DETAIL)
    return Shown("blurred", _uri(both[0][box])), Shown("sharp", _uri(both[1][box]))


def _read(address: str) -> np.ndarray | None:
    try:
        return read_rgb(location(address))
    except (OSError, PictureError, DataError):
        return None


def _uri(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_WHOLE, _WHOLE), Image.Resampling.LANCZOS)
    encoded = encode_picture(Picture(np.asarray(image)), "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
