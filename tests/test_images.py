"""The reading policy: what is accepted, and what is kept."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from deblur.errors import PictureError
from deblur.images import (
    Picture,
    encode_picture,
    read_picture,
    read_rgb,
    read_size,
)
from deblur.metrics import psnr
from tests.pictures import (
    DESCRIPTION,
    EXIF_FOLDER,
    KEEPS_EXIF,
    LOSSLESS,
    ORIENTATION,
    STORED,
    TAKEN,
    encoded,
    exif_of,
    png_of_header,
    reopened,
)

# Orientation and metadata


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_orientation_is_applied_and_not_left_in_the_output(
    detail: np.ndarray, format: str, orientation: int
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](detail)))
    exif = exif_of(orientation=orientation, description="a wall")
    picture = read_picture(encoded(stored, format, exif=exif))
    np.testing.assert_array_equal(picture.rgb, detail)
    written = encode_picture(picture)
    assert ORIENTATION not in reopened(written).getexif()
    # Read once more, it must not be turned a second time.
    np.testing.assert_array_equal(read_picture(written).rgb, detail)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_told_from_the_header_is_that_of_the_upright_picture(
    detail: np.ndarray, tmp_path: Path, format: str, orientation: int
) -> None:
    file = tmp_path / "picture"
    exif = exif_of(orientation=orientation)
    file.write_bytes(encoded(Image.fromarray(detail), format, exif=exif))
    assert read_size(file) == read_rgb(file).shape[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a picture", "is not a picture"),
        (png_of_header(40_000, 40_000), r"has 40000x40000 = 1600\.0 megapixels"),
        (png_of_header(40, 40)[:30], "cannot be opened as PNG"),
    ],
    ids=["text", "bomb", "cut"],
)
def test_size_of_something_else_is_refused_with_its_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "notes.png"
    file.write_bytes(content)
    with pytest.raises(PictureError, match=rf"notes\.png {message}"):
        read_size(file)


@pytest.mark.parametrize("source", KEEPS_EXIF)
@pytest.mark.parametrize("target", KEEPS_EXIF)
def test_other_exif_is_kept_whatever_the_format_written(
    detail: np.ndarray, source: str, target: str
) -> None:
    exif = exif_of(orientation=6, description="a wall")
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "2024:05:06 07:08:09"
    # Through bytes, as a camera writes it: Pillow's TIFF writer forgets unsaved sub-directories.
    written = encode_picture(
        read_picture(encoded(Image.fromarray(detail), source, exif=exif.tobytes())), target
    )
    kept = reopened(written).getexif()
    assert kept[DESCRIPTION] == "a wall"
    assert kept.get_ifd(EXIF_FOLDER)[TAKEN] == "2024:05:06 07:08:09"
    assert ORIENTATION not in kept
    assert read_picture(written).rgb.shape == (56, 40, 3)


def test_icc_profile_of_rgb_is_kept_byte_for_byte(detail: np.ndarray) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(detail)
    for format in KEEPS_EXIF:
        picture = read_picture(encoded(image, format, icc_profile=profile))
        assert picture.icc == profile
        assert reopened(encode_picture(picture)).info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_icc_profile_of_other_colours_is_dropped(detail: np.ndarray, mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(detail).convert(mode)
    picture = read_picture(encoded(image, "TIFF", icc_profile=profile))
    assert picture.icc is None
    assert "icc_profile" not in reopened(encode_picture(picture)).info


# Colour modes


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_kept_apart_and_put_back(detail: np.ndarray, format: str) -> None:
    alpha = np.arange(40 * 56, dtype=np.uint32).reshape(40, 56).astype(np.uint8)
    image = Image.fromarray(np.dstack([detail, alpha]))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    picture = read_picture(encoded(image, format, **options))
    assert picture.rgb.shape == (40, 56, 3)
    np.testing.assert_array_equal(picture.rgb, detail)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, alpha)

    restored = reopened(encode_picture(picture.with_rgb(255 - detail)))
    assert restored.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(restored)[..., 3], alpha)
    if format in LOSSLESS:
        np.testing.assert_array_equal(np.asarray(restored)[..., :3], 255 - detail)


@pytest.mark.parametrize("format", ["JPEG", "BMP"])
def test_formats_without_alpha_are_written_without_it(detail: np.ndarray, format: str) -> None:
    picture = Picture(detail, alpha=np.full((40, 56), 7, np.uint8))
    assert reopened(encode_picture(picture, format)).mode == "RGB"


@pytest.mark.parametrize("associated", [False, True])
def test_grey_with_alpha_comes_back_as_grey_with_alpha(
    detail: np.ndarray, associated: bool
) -> None:
    grey = np.ascontiguousarray(detail[..., 0])
    opaque = np.full_like(grey, 255)
    opaque[:5] = 0 if not associated else 255
    file = encoded(Image.fromarray(np.dstack([grey, opaque])), "TIFF")
    if associated:
        # ExtraSamples (338, SHORT, one value): 2, unassociated, becomes 1, premultiplied.
        marked = struct.pack("<HHIHH", 338, 3, 1, 1, 0)
        file = file.replace(struct.pack("<HHIHH", 338, 3, 1, 2, 0), marked)
        assert marked in file
    picture = read_picture(file)
    assert picture.grey
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, opaque)
    np.testing.assert_array_equal(picture.rgb, np.dstack([grey] * 3))
    restored = reopened(encode_picture(picture))
    assert restored.mode == "LA"
    np.testing.assert_array_equal(np.asarray(restored), np.dstack([grey, opaque]))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_comes_back_as_grey(detail: np.ndarray, format: str) -> None:
    picture = read_picture(encoded(Image.fromarray(detail[..., 1]), format, quality=95))
    assert picture.grey
    assert picture.rgb.shape == (40, 56, 3)
    np.testing.assert_array_equal(picture.rgb[..., 0], picture.rgb[..., 2])
    assert reopened(encode_picture(picture)).mode == "L"


@pytest.mark.parametrize("format", LOSSLESS)
def test_one_bit_becomes_black_and_white_grey(detail: np.ndarray, format: str) -> None:
    bits = detail[..., 0] > 128
    picture = read_picture(encoded(Image.fromarray(bits), format))
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 0], np.where(bits, 255, 0))
    assert reopened(encode_picture(picture)).mode == "L"


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_by_value(format: str) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    picture = read_picture(encoded(Image.fromarray(values), format))
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 1], np.arange(256).reshape(16, 16))
    assert reopened(encode_picture(picture)).mode == "L"


def test_sixteen_bit_grey_between_the_steps_is_off_by_less_than_one_level() -> None:
    values = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    picture = read_picture(encoded(Image.fromarray(values), "PNG"))
    assert np.abs(picture.rgb[..., 0] - values / 257.0).max() <= 0.5


def test_thirty_two_bit_grey_is_clipped_and_never_wraps_round() -> None:
    values = np.array([[-5, 0, 32896, 65535, 70000]], np.int32)
    picture = read_picture(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(picture.rgb[0, :, 0], [0, 0, 128, 255, 255])


def test_palette_becomes_rgb_and_its_transparency_alpha(detail: np.ndarray) -> None:
    palette = Image.fromarray(detail).quantize(16)
    plain = read_picture(encoded(palette, "PNG"))
    np.testing.assert_array_equal(plain.rgb, np.asarray(palette.convert("RGB")))
    assert plain.alpha is None
    assert not plain.grey

    seen_through = read_picture(encoded(palette, "PNG", transparency=3))
    assert seen_through.alpha is not None
    np.testing.assert_array_equal(seen_through.alpha == 0, np.asarray(palette) == 3)


def test_cmyk_becomes_rgb(detail: np.ndarray) -> None:
    cmyk = Image.fromarray(detail).convert("CMYK")
    picture = read_picture(encoded(cmyk, "TIFF"))
    np.testing.assert_array_equal(picture.rgb, detail)
    assert reopened(encode_picture(picture, "JPEG")).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "F"])
@pytest.mark.parametrize("target", LOSSLESS)
def test_a_tiff_of_any_mode_is_written_with_the_pixels_that_were_read(
    detail: np.ndarray, mode: str, target: str
) -> None:
    base = Image.fromarray(detail)
    image = base.convert("L").convert("F") if mode == "F" else base.convert(mode)
    picture = read_picture(encoded(image, "TIFF"))
    np.testing.assert_array_equal(read_picture(encode_picture(picture, target)).rgb, picture.rgb)


def test_of_a_phones_mpo_the_first_frame_is_the_photo(detail: np.ndarray) -> None:
    photo, preview = Image.fromarray(detail), Image.new("RGB", (16, 16))
    body = encoded(photo, "MPO", save_all=True, append_images=[preview], quality=95)
    assert reopened(body).format == "MPO"
    picture = read_picture(body)
    assert picture.format == "JPEG"
    assert psnr(picture.rgb, detail) > 25
