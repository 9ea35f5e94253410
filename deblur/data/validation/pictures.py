"""The pictures of a report: small JPEGs inside the page."""

import base64
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deblur.data.storage import location
from deblur.errors import DataError, PictureError
from deblur.images import Picture, encode_picture, read_rgb

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
    box = _strongest(both[1])
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


def _strongest(sharp: np.ndarray) -> tuple[slice, slice]:
    """Where absolute gradients add up to most, on a grid of half a detail."""
    grey = sharp.mean(axis=2, dtype=np.float32)
    energy = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    energy += np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    height, width = (min(_DETAIL, side) for side in grey.shape)
    places = [
        (float(energy[top : top + height, left : left + width].sum()), top, left)
        for top in _starts(grey.shape[0], height)
        for left in _starts(grey.shape[1], width)
    ]
    _, top, left = max(places)
    return slice(top, top + height), slice(left, left + width)


def _starts(whole: int, part: int) -> list[int]:
    return sorted({*range(0, whole - part + 1, max(1, part // 2)), whole - part})
