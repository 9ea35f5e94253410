"""Writing pictures, and the networks' range."""

import numpy as np
import pytest
from PIL import Image

from deblur.errors import PictureError
from deblur.images import (
    FORMATS,
    SUFFIXES,
    Picture,
    encode_picture,
    read_picture,
    to_float,
    to_uint8,
)
from deblur.metrics import psnr
from tests.pictures import LOSSLESS, encoded, reopened

# Writing


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_survives_writing_and_reading(detail: np.ndarray, format: str) -> None:
    written = encode_picture(Picture(detail), format)
    again = read_picture(written)
    assert again.format == format
    if format in LOSSLESS:
        np.testing.assert_array_equal(again.rgb, detail)
    else:
        # WebP halves the resolution of colour, which this picture's coloured edges feel.
        least = {"JPEG": 33.0, "WEBP": 26.0, "AVIF": 33.0, "HEIC": 33.0}
        assert psnr(again.rgb, detail) > least[format]
    assert FORMATS[format] == ("image/heic" if format == "HEIC" else Image.MIME[format])


def test_a_picture_is_written_in_the_format_it_came_in(detail: np.ndarray) -> None:
    for format in FORMATS:
        picture = read_picture(encoded(Image.fromarray(detail), format))
        again = encode_picture(picture)
        assert reopened(again).format == ("HEIF" if format == "HEIC" else format)


def test_every_suffix_names_a_format() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIC"])
def test_higher_quality_is_closer_and_larger(detail: np.ndarray, format: str) -> None:
    low, high = (encode_picture(Picture(detail), format, quality) for quality in (30, 95))
    assert len(high) > len(low)
    assert psnr(read_picture(high).rgb, detail) > psnr(read_picture(low).rgb, detail) + 1.0


def test_unknown_format_is_refused_with_the_known_ones(detail: np.ndarray) -> None:
    with pytest.raises(PictureError, match="cannot write 'GIF': expected one of JPEG, PNG"):
        encode_picture(Picture(detail), "GIF")


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_a_picture_too_wide_for_a_format_says_to_choose_another(format: str) -> None:
    wide = Picture(np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(
        PictureError, match=f"cannot write 70000x1 pixels as {format} .* choose another format"
    ):
        encode_picture(wide, format)


def test_other_pixels_must_have_the_same_size(detail: np.ndarray) -> None:
    picture = Picture(detail, grey=True, format="TIFF", icc=b"profile")
    with pytest.raises(ValueError, match=r"expected pixels of shape \(40, 56, 3\)"):
        picture.with_rgb(detail[1:])
    other = picture.with_rgb(255 - detail)
    assert (other.grey, other.format, other.icc) == (True, "TIFF", b"profile")
    np.testing.assert_array_equal(other.rgb, 255 - detail)


# The networks' range


def test_to_float_and_back_is_the_identity_on_all_values() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.dstack([values, values[::-1], values.T])
    planes = to_float(pixels)
    assert planes.shape == (1, 3, 16, 16)
    assert planes.dtype == np.float32
    assert (planes.min(), planes.max()) == (-1.0, 1.0)
    np.testing.assert_allclose(planes[0, 1], values[::-1] / 127.5 - 1.0, atol=1e-6)
    np.testing.assert_array_equal(to_uint8(planes), pixels)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-7.0, 0), (-1.0001, 0), (1.0001, 255), (40.0, 255), (0.0, 128), (1 / 255, 128)],
)
def test_to_uint8_clamps_and_rounds(value: float, expected: int) -> None:
    pixels = to_uint8(np.full((1, 3, 2, 5), value, np.float32))
    assert pixels.shape == (2, 5, 3)
    assert pixels.dtype == np.uint8
    assert set(pixels.ravel()) == {expected}
