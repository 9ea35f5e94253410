"""The reading policy: what is accepted, what is kept, and what is said about the rest."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from deblur.errors import PictureError, PictureTooLargeError
from deblur.images import (
    FORMATS,
    SUFFIXES,
    Limits,
    Picture,
    encode_picture,
    read_picture,
    read_rgb,
    read_size,
    to_float,
    to_uint8,
)
from deblur.metrics import psnr

LOSSLESS = ("PNG", "TIFF", "BMP")
KEEPS_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")
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


@pytest.fixture
def detail(photograph: np.ndarray) -> np.ndarray:
    """``[40, 56, 3]`` uint8."""
    return np.ascontiguousarray(photograph[80:120, 100:156])


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def reopened(encoded_picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded_picture))


def exif_of(**tags: int | str) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[{"orientation": ORIENTATION, "description": DESCRIPTION}[name]] = value
    return exif


def png_of_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that promises ``width x height`` pixels of RGB and holds ``pixels``."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
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
    "content", [b"not a picture", png_of_header(20_000, 20_000)], ids=["text", "bomb"]
)
def test_size_of_something_else_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.png"
    file.write_bytes(content)
    with pytest.raises(PictureError, match=r"notes\.png cannot be opened"):
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


# Limits


@pytest.mark.parametrize("side", [1001, 20_000, 60_000])
def test_too_many_pixels_are_told_from_the_header_before_decoding(side: int) -> None:
    bomb = png_of_header(side, side)
    with pytest.raises(PictureTooLargeError) as raised:
        read_picture(bomb, Limits(megapixels=1.0))
    assert "the limit is 1" in str(raised.value)
    assert raised.value.status == 413


def test_the_same_file_within_the_limits_fails_on_its_missing_pixels() -> None:
    bomb = png_of_header(1001, 1001)
    with pytest.raises(PictureError, match="damaged or truncated") as raised:
        read_picture(bomb, Limits(megapixels=2.0))
    assert not isinstance(raised.value, PictureTooLargeError)


def test_message_on_pixels_names_size_and_limit() -> None:
    with pytest.raises(
        PictureTooLargeError,
        match=r"has 2000x1500 = 3\.0 megapixels, the limit is 2: send a smaller picture",
    ):
        read_picture(png_of_header(2000, 1500), Limits(megapixels=2.0))


@pytest.mark.parametrize("as_file", [False, True])
def test_too_many_bytes_are_refused_before_they_are_looked_at(
    tmp_path: Path, as_file: bool
) -> None:
    # Not a picture: were it opened first, another message would come.
    rubbish = bytes(2**20 + 1)
    source: bytes | Path = rubbish
    if as_file:
        source = tmp_path / "large.png"
        source.write_bytes(rubbish)
    with pytest.raises(PictureTooLargeError, match=r"has 1\.0 MiB, the limit is 1 MiB: send a"):
        read_picture(source, Limits(megabytes=1.0))
    with pytest.raises(PictureError, match="not a picture"):
        read_picture(source, Limits(megabytes=2.0))


def test_a_picture_exactly_at_the_limit_is_read() -> None:
    file = encode_picture(Picture(np.zeros((100, 100, 3), np.uint8)))
    limits = Limits(megabytes=len(file) / 2**20, megapixels=0.01)
    assert read_picture(file, limits).rgb.shape == (100, 100, 3)


# What is refused


def test_empty_bytes_are_refused() -> None:
    with pytest.raises(PictureError, match="is empty: expected an encoded picture") as raised:
        read_picture(b"")
    assert raised.value.status == 415


@pytest.mark.parametrize(
    "source",
    [b"hello, this is text", bytes(64), b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n"],
    ids=["text", "zeros", "PDF", "signature of PNG alone"],
)
def test_garbage_is_refused_with_its_first_bytes_and_what_is_accepted(source: bytes) -> None:
    with pytest.raises(PictureError) as raised:
        read_picture(source)
    message = str(raised.value)
    assert f"begins with {source[:8]!r}" in message
    assert "expected JPEG, PNG, WEBP, TIFF, BMP; convert it" in message


def test_gif_is_not_accepted(detail: np.ndarray) -> None:
    with pytest.raises(PictureError, match=r"begins with b'GIF8.*expected JPEG, PNG.*convert it"):
        read_picture(encoded(Image.fromarray(detail), "GIF"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_picture_is_refused_with_a_clear_message(
    detail: np.ndarray, tmp_path: Path, format: str
) -> None:
    whole = encoded(Image.fromarray(detail), format)
    file = tmp_path / "cut.bin"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PictureError) as raised:
        read_picture(file)
    message = str(raised.value)
    assert message.startswith(str(file))
    assert "expected" in message


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_truncated_pixels_are_named_as_such(detail: np.ndarray, format: str) -> None:
    whole = encoded(Image.fromarray(detail), format)
    with pytest.raises(PictureError, match=r"damaged or truncated \(.+\): expected a complete"):
        read_picture(whole[: len(whole) * 3 // 4])


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_several_pages_or_frames_are_refused_with_their_number(
    detail: np.ndarray, format: str
) -> None:
    pages = [Image.fromarray(np.roll(detail, shift, axis=0)) for shift in (0, 5, 9)]
    file = encoded(pages[0], format, save_all=True, append_images=pages[1:])
    with pytest.raises(PictureError, match="has 3 frames or pages: send them one by one"):
        read_picture(file)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_damaged_exif_is_refused_and_not_passed_on_as_a_crash(
    detail: np.ndarray, format: str
) -> None:
    file = encoded(Image.fromarray(detail), format, exif=b"Exif\0\0no such header")
    with pytest.raises(PictureError, match="is damaged"):
        read_picture(file)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"none\.png does not exist: expected a picture file"):
        read_picture(tmp_path / "none.png")
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(PictureError, match=r"folder\.png cannot be opened"):
        read_picture(folder)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=300))
def test_random_bytes_only_ever_raise_a_picture_error(source: bytes) -> None:
    with pytest.raises(PictureError):
        read_picture(source, Limits(1.0, 1.0))


def _small_files() -> list[bytes]:
    base = Image.fromarray(np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3))
    files = [encoded(base, format) for format in FORMATS]
    files += [encoded(base, format, exif=exif_of(orientation=6)) for format in KEEPS_EXIF]
    return [*files, *(encoded(base.convert(mode), "TIFF") for mode in ("P", "LA", "CMYK"))]


SMALL_FILES = _small_files()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF fields
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    file=st.sampled_from(SMALL_FILES),
    changes=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 399),
)
def test_a_picture_with_changed_bytes_is_read_or_raises_a_picture_error(
    file: bytes, changes: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(file)
    for place, value in changes:
        damaged[place % len(file)] = value
    try:
        picture = read_picture(bytes(damaged[:cut]), Limits(1.0, 1.0))
    except PictureError as error:
        assert any(word in str(error) for word in ("expected", "the limit is", "one by one"))
    else:
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.ndim == 3
        assert picture.rgb.shape[2] == 3


def test_a_tiff_with_a_damaged_second_page_is_a_picture_error(detail: np.ndarray) -> None:
    whole = bytearray(encoded(Image.fromarray(detail), "TIFF"))
    (first,) = struct.unpack_from("<I", whole, 4)
    (fields,) = struct.unpack_from("<H", whole, first)
    # The link behind the last field leads to a page without any: Pillow answers with a TypeError.
    struct.pack_into("<I", whole, first + 2 + 12 * fields, len(whole))
    with pytest.raises(PictureError, match="is damaged or truncated"):
        read_picture(bytes(whole) + bytes(6))


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
        assert psnr(again.rgb, detail) > {"JPEG": 33.0, "WEBP": 26.0}[format]
    assert Image.MIME[format] == FORMATS[format]


def test_a_picture_is_written_in_the_format_it_came_in(detail: np.ndarray) -> None:
    for format in FORMATS:
        picture = read_picture(encoded(Image.fromarray(detail), format))
        assert reopened(encode_picture(picture)).format == format


def test_every_suffix_names_a_format() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
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
