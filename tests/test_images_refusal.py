"""Pictures that are refused, and what is said about them."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur.errors import PictureError, PictureTooLargeError
from deblur.images import (
    FORMATS,
    Limits,
    Picture,
    encode_picture,
    read_header,
    read_picture,
)
from deblur.metrics import psnr
from tests.pictures import KEEPS_EXIF, encoded, exif_of, png_of_header

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
    [b"hello, this is text", bytes(64), b"%PDF-1.7\n", b"\0\0\0\x14ftypmp42\0\0\0\0isom"],
    ids=["text", "zeros", "PDF", "MP4"],
)
def test_garbage_is_refused_with_its_first_bytes_and_what_is_accepted(source: bytes) -> None:
    with pytest.raises(PictureError) as raised:
        read_picture(source)
    message = str(raised.value)
    assert f"begins with {source[:8]!r}" in message
    assert "expected JPEG, PNG, WEBP, TIFF, BMP, AVIF, HEIC; convert it" in message


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"RIFF\x04\0\0\0WEBP", b"BM", b"II*\0"])
def test_the_beginning_of_a_picture_alone_is_refused_as_incomplete(head: bytes) -> None:
    with pytest.raises(PictureError, match=r"cannot be opened as .* expected a complete file"):
        read_picture(head)


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


@pytest.mark.parametrize(
    ("format", "number"),
    [("TIFF", "several"), ("WEBP", "3"), ("PNG", "3"), ("AVIF", "3"), ("HEIC", "3")],
)
def test_several_pages_or_frames_are_refused_or_the_first_is_taken(
    detail: np.ndarray, format: str, number: str
) -> None:
    pages = [Image.fromarray(np.roll(detail, shift, axis=0)) for shift in (0, 5, 9)]
    exact: dict[str, dict] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100},
        "HEIC": {"quality": 100},
    }
    file = encoded(
        pages[0], format, save_all=True, append_images=pages[1:], **exact.get(format, {})
    )
    for read in (read_picture, read_header):
        with pytest.raises(PictureError, match=f"has {number} frames or pages: .* frames=first"):
            read(file)
    assert read_header(file, first_frame=True).frames == (2 if format == "TIFF" else 3)
    first = read_picture(file, first_frame=True)
    if format in ("TIFF", "WEBP", "PNG"):
        np.testing.assert_array_equal(first.rgb, detail)
    else:
        assert psnr(first.rgb, detail) > 25  # half the resolution of colour


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


def test_of_a_tiff_with_a_damaged_second_page_the_first_can_be_read(detail: np.ndarray) -> None:
    whole = bytearray(encoded(Image.fromarray(detail), "TIFF"))
    (first,) = struct.unpack_from("<I", whole, 4)
    (fields,) = struct.unpack_from("<H", whole, first)
    # The link behind the last field leads to a page without any: Pillow answers with a TypeError.
    struct.pack_into("<I", whole, first + 2 + 12 * fields, len(whole))
    file = bytes(whole) + bytes(6)
    with pytest.raises(PictureError, match="has several frames or pages"):
        read_picture(file)
    np.testing.assert_array_equal(read_picture(file, first_frame=True).rgb, detail)


def test_without_its_package_a_heic_file_says_what_to_install(
    detail: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = encoded(Image.fromarray(detail), "HEIC")
    for module in ("opening", "writing"):
        monkeypatch.setattr(f"deblur.images.{module}.HEIC_INSTALLED", False)
    for attempt in (
        lambda: read_picture(photo),
        lambda: read_header(photo),
        lambda: encode_picture(Picture(detail), "HEIC"),
    ):
        with pytest.raises(PictureError, match=r"pip install 'deblur\[heic\]'"):
            attempt()


# Files that would take long


@pytest.mark.parametrize(
    ("part", "repeated"), [(b"\xff\xe5\0\x02", 5000), (b"\xff", 2**17)], ids=["segments", "filling"]
)
def test_a_jpeg_of_very_many_segments_is_refused_before_it_is_walked_through(
    detail: np.ndarray, part: bytes, repeated: int
) -> None:
    plain = encoded(Image.fromarray(detail), "JPEG")
    assert read_picture(plain[:2] + part * 9 + plain[2:]).rgb.shape == detail.shape
    with pytest.raises(PictureError, match="cannot be opened as JPEG"):
        read_header(plain[:2] + part * repeated + plain[2:])


def test_a_jpeg_of_very_many_scans_is_refused_and_its_trailer_is_not_counted(
    detail: np.ndarray,
) -> None:
    progressive = encoded(Image.fromarray(detail), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scan, end = progressive[last:-2], progressive[-2:]
    # Phones append films to their pictures, in which any bytes occur.
    assert read_picture(progressive + scan * 200).rgb.shape == detail.shape
    with pytest.raises(PictureError, match="more than 100 scans"):
        read_picture(progressive[:last] + scan * 200 + end)
