"""How much memory a picture takes while it is read and written, measured in processes of its own,
and pictures beyond Pillow's limit."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.errors import PictureTooLargeError
from deblur.images import Limits, read_header, read_picture
from tests.peak_memory import peak_bytes
from tests.pictures import encoded, exif_of, png_chunk, png_of_header

SIDE = 6000
PIXELS = SIDE * SIDE

BEGINNING = """
import numpy as np
from deblur.images import Limits, Picture, encode_picture, read_picture

small = Picture(np.zeros((64, 64, 3), np.uint8))
read_picture(encode_picture(small, sys.argv[1]))
"""
READ = """
source = open(sys.argv[2], "rb").read()
before = peak()
picture = read_picture(source, Limits(1000, 1000))
assert picture.rgb.shape == (6000, 6000, 3)
"""
WRITTEN = """
rgb = np.zeros((6000, 6000, 3), np.uint8)
rgb[::7] = 99
before = peak()
encode_picture(Picture(rgb), sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_reading_takes_four_and_three_bytes_a_pixel(
    tmp_path: Path, format: str, orientation: int
) -> None:
    rows = np.arange(SIDE, dtype=np.uint32)[:, None] // 9 * 5 + np.arange(SIDE) // 11 * 3
    image = Image.fromarray(rows.astype(np.uint8)).convert("RGB")
    file = tmp_path / "large"
    options = {} if format == "BMP" else {"exif": exif_of(orientation=orientation)}
    file.write_bytes(encoded(image, format, **options))
    # 7, and a band of a million pixels.
    assert 6.5 < peak_bytes(BEGINNING + READ, format, str(file)) / PIXELS < 7.6


@pytest.mark.slow
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_writing_takes_four_bytes_a_pixel_beside_the_picture(format: str) -> None:
    assert 3.5 < peak_bytes(BEGINNING + WRITTEN, format) / PIXELS < 4.5


# Pillow's own limit is 179 megapixels, one for the whole process.


@pytest.mark.slow
def test_a_picture_beyond_pillows_limit_is_read_when_ours_allows_it() -> None:
    width, height = 20_000, 10_000
    packer = zlib.compressobj(1)
    row = bytes(width // 8 + 1)
    pixels = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    file = b"\x89PNG\r\n\x1a\n" + b"".join([
        png_chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"),
        png_chunk(b"IDAT", pixels),
        png_chunk(b"IEND", b""),
    ])  # fmt: skip
    unchanged = Image.MAX_IMAGE_PIXELS
    assert read_picture(file, Limits(megapixels=400)).rgb.shape == (height, width, 3)
    assert unchanged == Image.MAX_IMAGE_PIXELS
    with pytest.raises(
        PictureTooLargeError, match=r"= 200\.0 megapixels, the limit is 100: send a"
    ):
        read_picture(file)


def test_our_limit_counts_and_pillow_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    for side in (10_000, 14_000, 19_000):
        header = read_header(png_of_header(side, side), Limits(megapixels=400))
        assert (header.width, header.height) == (side, side)
        assert header.megapixels == side * side / 1e6
    assert len(recwarn) == 0
