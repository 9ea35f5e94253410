"""Encoded pictures of every kind, for tests of reading and writing."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

# The tests make and look at HEIC with Pillow; the library itself registers nothing.
pillow_heif.register_heif_opener()

LOSSLESS = ("PNG", "TIFF", "BMP")
KEEPS_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC")
ORIENTATION, DESCRIPTION, EXIF_FOLDER, TAKEN = 0x0112, 0x010E, 0x8769, 0x9003

#: What to do to an upright picture to store it under each EXIF orientation (EXIF 2.32, 4.6.4).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 1)[:, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format={"HEIC": "HEIF"}.get(format, format), **options)
    return out.getvalue()


def reopened(encoded_picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded_picture))


def exif_of(**tags: int | str) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[{"orientation": ORIENTATION, "description": DESCRIPTION}[name]] = value
    return exif


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that promises ``width x height`` pixels of RGB and holds ``pixels``."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(pixels))
        + png_chunk(b"IEND", b"")
    )
