"""Colour profiles, transparency where it cannot be kept, and what is kept of the metadata."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from deblur.images import Picture, encode_picture, read_header, read_picture
from deblur.metrics import psnr
from tests.pictures import EXIF_FOLDER, KEEPS_EXIF, ORIENTATION, STORED, encoded, exif_of, reopened

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_profile(colours: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, with the connection space Lab for CMYK and XYZ else."""
    space = b"Lab " if colours == b"CMYK" else b"XYZ "
    kind = b"prtr" if colours == b"CMYK" else b"mntr"
    directory, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        directory += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = bytes(4) + b"none" + struct.pack(">I4s4s4s", 0x02400000, kind, colours, space)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    whole = header.ljust(128, b"\0") + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in (x, y, z)))


GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * 2.2)) + b"\0\0"
WHITE = xyz(0.9642, 1.0, 0.8249)
#: A wide gamut: the primaries of Display P3, adapted to D50, with a plain gamma.
WIDE = icc_profile(b"RGB ", {
    b"wtpt": WHITE, b"rTRC": GAMMA, b"gTRC": GAMMA, b"bTRC": GAMMA,
    b"rXYZ": xyz(0.5151, 0.2412, -0.0011), b"gXYZ": xyz(0.2919, 0.6922, 0.0419),
    b"bXYZ": xyz(0.1572, 0.0666, 0.7841),
})  # fmt: skip
GREY = icc_profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": GAMMA})


def peculiar_inks() -> bytes:
    """A CMYK profile of a press whose cyan ink is red (Lab 54, 81, 70) and whose others are black:
    lut8Type (ICC.1:2001-04, 6.5.8) of two grid points a channel."""
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0])
    table += struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    identity = bytes(range(256))
    paper, red, black = (255, 128, 128), (138, 209, 198), (0, 128, 128)
    nodes = [black] * 16
    nodes[0b0000], nodes[0b1000] = paper, red
    table += identity * 4 + bytes(value for node in nodes for value in node) + identity * 3
    return icc_profile(b"CMYK", {b"wtpt": WHITE, b"A2B0": table})


# Colour profiles


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk_is_converted_by_its_profile_to_srgb(format: str) -> None:
    inks = np.zeros((40, 40, 4), np.uint8)
    inks[:, 20:, 0] = 255
    image = Image.fromarray(inks, "CMYK")
    without = read_picture(encoded(image, format))
    assert np.abs(without.rgb[20, 30].astype(int) - [0, 255, 255]).max() <= 3
    picture = read_picture(encoded(image, format, icc_profile=peculiar_inks()))
    assert np.abs(picture.rgb[20, 5].astype(int) - 255).max() <= 3
    assert np.abs(picture.rgb[20, 30].astype(int) - [255, 0, 0]).max() <= 14
    assert picture.icc is None


def test_a_damaged_cmyk_profile_leaves_the_plain_conversion(detail: np.ndarray) -> None:
    image = Image.fromarray(detail).convert("CMYK")
    junk = peculiar_inks()[:150]
    picture = read_picture(encoded(image, "TIFF", icc_profile=junk))
    np.testing.assert_array_equal(picture.rgb, detail)


@pytest.mark.parametrize("format", KEEPS_EXIF)
def test_a_wide_gamut_is_kept_with_its_pixels(detail: np.ndarray, format: str) -> None:
    source = encoded(Image.fromarray(detail), "PNG", icc_profile=WIDE)
    written = encode_picture(read_picture(source), format)
    assert reopened(written).info["icc_profile"] == WIDE
    assert psnr(read_picture(written).rgb, detail) > 26


def test_without_metadata_a_wide_gamut_is_converted_to_srgb() -> None:
    pixels = np.full((30, 30, 3), (200, 100, 50), np.uint8)
    alpha = np.full((30, 30), 77, np.uint8)
    plain = encode_picture(Picture(pixels, alpha=alpha, icc=WIDE), keep_metadata=False)
    again = read_picture(plain)
    assert again.icc is None
    assert again.alpha is not None and (again.alpha == 77).all()
    # In the wider space the same numbers mean a redder colour.
    red, green, blue = (int(value) for value in again.rgb[3, 3])
    assert red > 208 and green < 100 and blue < 45
    unchanged = encode_picture(Picture(pixels, icc=SRGB), keep_metadata=False)
    np.testing.assert_array_equal(read_picture(unchanged).rgb, pixels)


def test_a_grey_profile_is_kept_where_grey_is_written(detail: np.ndarray) -> None:
    picture = read_picture(encoded(Image.fromarray(detail[..., 0]), "PNG", icc_profile=GREY))
    for format in ("JPEG", "PNG", "TIFF", "AVIF"):
        again = reopened(encode_picture(picture, format))
        assert (again.mode, again.info["icc_profile"]) == ("L", GREY)
    as_webp = reopened(encode_picture(picture, "WEBP"))
    assert as_webp.mode == "RGB" and "icc_profile" not in as_webp.info


def test_a_palettes_profile_is_kept_and_junk_is_not(detail: np.ndarray) -> None:
    palette = Image.fromarray(detail).quantize(16)
    assert read_picture(encoded(palette, "PNG", icc_profile=SRGB)).icc == SRGB
    assert read_picture(encoded(palette, "PNG", icc_profile=b"junk")).icc is None


# Transparency and grey


@pytest.mark.parametrize("format", ["JPEG", "BMP"])
def test_what_is_transparent_becomes_white_where_it_cannot_be_kept(format: str) -> None:
    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[:, 32:] = 100
    alpha = np.zeros((32, 64), np.uint8)
    alpha[:, 16:32] = 255
    alpha[:, 32:] = 51  # a fifth
    pixels = np.asarray(reopened(encode_picture(Picture(rgb, alpha=alpha), format))).astype(int)
    expected = np.repeat([255, 0, 224], [16, 16, 32])
    assert np.abs(pixels[16] - expected[:, None])[[4, 24, 40, 60]].max() <= 2


@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_alpha_and_grey_survive_the_formats_of_video_codecs(
    detail: np.ndarray, format: str
) -> None:
    alpha = np.repeat(np.arange(56, dtype=np.uint8)[None] * 4, 40, axis=0)
    again = read_picture(encode_picture(Picture(detail, alpha=alpha), format))
    assert again.alpha is not None
    assert np.abs(again.alpha.astype(int) - alpha).max() <= 8
    assert psnr(again.rgb, detail) > 30
    assert read_picture(encode_picture(Picture(detail, grey=True), format)).grey


def test_webp_of_quality_100_is_lossless(detail: np.ndarray) -> None:
    picture = read_picture(encode_picture(Picture(detail), "WEBP", quality=100))
    np.testing.assert_array_equal(picture.rgb, detail)


# Metadata


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIC"])
def test_lossy_pictures_are_upright_too(detail: np.ndarray, format: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](detail)))
    file = encoded(stored, format, exif=exif_of(orientation=orientation).tobytes(), quality=95)
    picture = read_picture(file)
    assert psnr(picture.rgb, detail) > 24
    header = read_header(file)
    assert (header.width, header.height, header.format) == (56, 40, format)
    assert ORIENTATION not in reopened(encode_picture(picture)).getexif()
    assert read_picture(encode_picture(picture)).rgb.shape == (40, 56, 3)


def test_an_orientation_in_xmp_is_applied_once(detail: np.ndarray) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](detail)))
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    picture = read_picture(encoded(stored, "JPEG", xmp=packet, quality=95))
    assert psnr(picture.rgb, detail) > 24
    for format in KEEPS_EXIF:
        written = encode_picture(picture, format)
        assert b"xmpmeta" not in written
        assert read_picture(written).rgb.shape == (40, 56, 3)


@pytest.mark.parametrize("format", KEEPS_EXIF)
def test_previews_and_sizes_of_the_picture_before_are_not_kept(
    detail: np.ndarray, format: str
) -> None:
    preview = encoded(Image.fromarray(detail[::4, ::4]), "JPEG")
    exif = exif_of(description="a wall")
    own = exif.get_ifd(EXIF_FOLDER)
    own[0x927C], own[0xA002], own[0xA003] = b"maker" + preview, 999, 777
    block = exif.tobytes()
    # The second directory, with the offset and the length of a JPEG, follows the first.
    start = 6 + 8
    (entries,) = struct.unpack_from(">H", block, start)
    link = start + 2 + 12 * entries
    at = len(block) - 6
    second = struct.pack(">H", 2) + struct.pack(">HHII", 0x0201, 4, 1, at + 30)
    second += struct.pack(">HHII", 0x0202, 4, 1, len(preview)) + bytes(4)
    block = block[:link] + struct.pack(">I", at) + block[link + 4 :] + second + preview
    file = encoded(Image.fromarray(detail), "JPEG", exif=block)
    assert file.count(b"\xff\xd8\xff") == 3
    written = encode_picture(read_picture(file), format)
    kept = reopened(written).getexif()
    assert kept[0x010E] == "a wall"
    assert not {0x927C, 0xA002, 0xA003} & set(kept.get_ifd(EXIF_FOLDER))
    assert kept.get_ifd(1) == {}
    assert written.count(b"\xff\xd8\xff") == (1 if format == "JPEG" else 0)


@pytest.mark.parametrize("format", KEEPS_EXIF)
def test_nothing_is_left_of_the_metadata_when_it_is_stripped(
    detail: np.ndarray, format: str
) -> None:
    file = encoded(
        Image.fromarray(detail), format, exif=exif_of(description="a wall"), icc_profile=SRGB
    )
    written = encode_picture(read_picture(file), keep_metadata=False)
    assert b"a wall" not in written
    again = read_picture(written)
    assert (again.exif, again.icc) == (None, None)


def test_exif_too_long_for_a_jpeg_is_left_out(detail: np.ndarray) -> None:
    exif = exif_of(description="x" * 70_000)
    picture = read_picture(encoded(Image.fromarray(detail), "PNG", exif=exif))
    assert picture.exif is not None and len(picture.exif) > 70_000
    assert Image.open(io.BytesIO(encode_picture(picture, "JPEG"))).getexif() == {}
