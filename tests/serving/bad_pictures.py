"""Damaged, lying and hostile picture files, the same for the same seed."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from tests.pictures import encoded, exif_of, png_chunk, png_of_header

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "HEIC")
_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def bad_pictures(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` names and files: the crafted ones first, then real pictures with changed bytes.
    Some of the latter can still be read."""
    made = 0
    for name, file in _crafted():
        if made < count:
            yield name, file
            made += 1
    originals = list(_originals())
    for number in range(count - made):
        generator = np.random.default_rng([seed, number])
        name, file = originals[generator.integers(len(originals))]
        other = originals[generator.integers(len(originals))][1]
        change = _CHANGES[generator.integers(len(_CHANGES))]
        yield f"{number}: {name}, {change.__name__}", change(file, other, generator)


def _originals() -> Iterator[tuple[str, bytes]]:
    rows, columns = np.mgrid[:40, :48]
    pixels = np.stack([rows * 6, columns * 5, rows * columns % 251], -1).astype(np.uint8)
    image = Image.fromarray(pixels)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = exif_of(orientation=6, description="a wall")
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825)[1] = "N"
    pages = [image.rotate(90 * turn) for turn in (1, 2)]
    alpha = image.copy()
    alpha.putalpha(image.getchannel("G"))
    for format in _FORMATS:
        yield format, encoded(image, format)
        if format == "BMP":
            continue
        described = exif.tobytes()
        yield f"{format} described", encoded(image, format, exif=described, icc_profile=profile)
        if format != "JPEG":
            yield f"{format} with alpha", encoded(alpha, format)
            several = encoded(image, format, save_all=True, append_images=pages)
            yield f"{format} of three", several
    yield "progressive", encoded(image, "JPEG", progressive=True)
    yield "MPO", encoded(image, "MPO", save_all=True, append_images=pages)
    yield "lossless WEBP", encoded(image, "WEBP", lossless=True)
    yield "interlaced", encoded(image.quantize(16), "PNG", transparency=3)
    for mode in ("1", "L", "P", "LA", "CMYK", "YCbCr", "LAB", "I;16"):
        other = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        yield f"TIFF of {mode}", encoded(other if mode == "I;16" else image.convert(mode), "TIFF")
    for packing in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "group4", "zstd"):
        mode = "1" if packing == "group4" else "RGB"
        yield f"TIFF by {packing}", encoded(image.convert(mode), "TIFF", compression=packing)


# Changes


def truncation(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    return file[: generator.integers(len(file))]


def flipped_bits(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    bits = np.unpackbits(np.frombuffer(file, np.uint8))
    bits[generator.integers(bits.size, size=generator.integers(1, 20))] ^= 1
    return np.packbits(bits).tobytes()


def flipped_bits_of_the_header(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    return flipped_bits(file[:200], other, generator) + file[200:]


def extreme_field(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    size = int(generator.choice([1, 2, 4]))
    value = _EXTREMES[generator.integers(len(_EXTREMES))] & (256**size - 1)
    at = int(generator.integers(min(len(file), 1000)))
    order = "big" if generator.integers(2) else "little"
    return file[:at] + value.to_bytes(size, order) + file[at + size :]


def noise(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    at, size = generator.integers(len(file)), generator.integers(1, 200)
    return file[:at] + generator.bytes(int(size)) + file[at + size :]


def swapped_parts(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    a, b, c, d = sorted(generator.integers(len(file), size=4))
    return file[:a] + file[c:d] + file[b:c] + file[a:b] + file[d:]


def missing_part(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    a, b = sorted(generator.integers(len(file), size=2))
    return file[:a] + file[b:]


def repeated_part(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    a, b = sorted(generator.integers(len(file), size=2))
    return file[:b] + file[a:b] * int(generator.integers(1, 30)) + file[b:]


def another_tail(file: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    return file[: generator.integers(len(file))] + other[generator.integers(len(other)) :]


def changed_chunk_with_its_checksum(
    file: bytes, other: bytes, generator: np.random.Generator
) -> bytes:
    """Of a PNG, where a changed byte alone ends at the checksum."""
    if not file.startswith(b"\x89PNG"):
        return extreme_field(file, other, generator)
    chunks, at = [], 8
    while at < len(file):
        (size,) = struct.unpack_from(">I", file, at)
        chunks.append((file[at + 4 : at + 8], bytearray(file[at + 8 : at + 8 + size])))
        at += 12 + size
    body = chunks[generator.integers(min(len(chunks), 4))][1]
    if body:
        body[generator.integers(min(len(body), 40))] = generator.integers(256)
    return file[:8] + b"".join(png_chunk(name, bytes(body)) for name, body in chunks)


_CHANGES = (
    truncation, flipped_bits, flipped_bits_of_the_header, extreme_field, noise, swapped_parts,
    missing_part, repeated_part, another_tail, changed_chunk_with_its_checksum,
)  # fmt: skip


# Crafted files


def _crafted() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "one byte", b"\xff"
    yield "zeros", bytes(1000)
    yield "text", b"hello, this is text"
    yield "HTML", b"<!doctype html><img src=x onerror=alert(1)>"
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="1e9" height="1e9"/>'
    yield "PDF", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF"
    yield "ZIP", b"PK\x03\x04" + bytes(60)
    yield "GIF", encoded(Image.new("P", (9, 9)), "GIF")
    yield "MP4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(99)
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield from ((f"head of {head!r}", head) for head in _heads())
    yield from _crafted_png()
    yield from _crafted_tiff()
    yield from _crafted_jpeg()
    yield from _crafted_boxes()


def _heads() -> tuple[bytes, ...]:
    boxes = tuple(
        b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand * 2 for brand in (b"avif", b"heic")
    )
    return (
        b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"RIFF",
        b"RIFF\0\0\0\0WEBPVP8 ", *boxes, b"\xff\xff\xff\xffftypavif",
    )  # fmt: skip


@cache
def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    whole = [packer.compress(block) for _ in range(count // 2**20)]
    return b"".join([*whole, packer.compress(bytes(count % 2**20)), packer.flush()])


def _crafted_png() -> Iterator[tuple[str, bytes]]:
    head, end = b"\x89PNG\r\n\x1a\n", png_chunk(b"IEND", b"")

    def header(width: int, height: int, depth: int = 8, colours: int = 2) -> bytes:
        fields = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
        return head + png_chunk(b"IHDR", fields)

    pixels = png_chunk(b"IDAT", zlib.compress(bytes(31 * 10)))
    yield "PNG bomb", header(30_000, 30_000, 1, 0) + png_chunk(b"IDAT", _zeros(30_000 * 3751)) + end
    more = png_chunk(b"IDAT", _zeros(2**27))
    yield "PNG with more pixels than it says", header(700, 700) + more + end
    for side in (0, 2**16, 2**31 - 1, 2**32 - 1):
        yield f"PNG of {side}", png_of_header(side, side)
        yield f"PNG of {side}x1", png_of_header(side, 1)
    profile = png_chunk(b"iCCP", b"x\0\0" + _zeros(2**27))
    yield "PNG with a bomb of a profile", header(10, 10) + profile + pixels + end
    text = png_chunk(b"zTXt", b"x\0\0" + _zeros(2**20 - 1))
    yield "PNG with bombs of texts", header(10, 10) + text * 200 + pixels + end
    frames = png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield "PNG of two billion frames", header(10, 10) + frames + pixels + end
    late = png_chunk(b"eXIf", exif_of(orientation=6).tobytes()[6:])
    yield "PNG with EXIF behind its pixels", header(10, 10) + pixels + late + end
    small = png_chunk(b"prVt", b"")
    yield "PNG of 80,000 chunks", header(10, 10) + small * 80_000 + pixels + end
    empty = png_chunk(b"IDAT", b"")
    yield "PNG of 80,000 empty parts", header(10, 10) + empty * 80_000 + pixels + end
    for name, block in _bad_exif():
        yield f"PNG with {name}", header(10, 10) + png_chunk(b"eXIf", block) + pixels + end
    for junk in (b"", b"junk", bytes(128), bytes(36) + b"acsp" + bytes(4000)):
        packed = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(junk))
        yield f"PNG with a profile of {len(junk)} bytes", header(10, 10) + packed + pixels + end


def _bad_exif() -> Iterator[tuple[str, bytes]]:
    def block(*entries: tuple[int, int, int, int], rest: bytes = b"") -> bytes:
        packed = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
        directory = struct.pack("<H", len(entries)) + packed + bytes(4)
        return b"II*\0\x08\0\0\0" + directory + rest

    yield "EXIF of junk", b"junk" * 9
    yield "EXIF that leads to itself", block((0x8769, 4, 1, 8), (0x8825, 4, 1, 8))
    yield "EXIF of 65,535 entries", block(*((tag, 4, 1, tag) for tag in range(0xFFFF)))
    many = ((tag, 7, 100_000, 0) for tag in range(0x9000, 0xFFFF))
    yield "EXIF that is read again and again", block(*many, rest=bytes(200_000))
    yield "EXIF of 250,000 numbers", block((0x9000, 3, 250_000, 26), rest=bytes(500_000))
    yield "EXIF of 900,000 numbers", block((0x9000, 6, 900_000, 26), rest=bytes(900_000))
    yield "EXIF of an orientation in words", block((0x0112, 2, 4, 0x00363636))
    yield "EXIF of orientation 9999", block((0x0112, 3, 1, 9999))
    yield "EXIF of several orientations", block((0x0112, 3, 2, 0x00060006))
    yield "EXIF of fractions by zero", block((0x011A, 5, 1, 0), (0x8769, 5, 1, 8))


def _tiff(*entries: tuple[int, int, int, int], rest: bytes = b"", following: int = 0) -> bytes:
    """Little-endian; the pixels and what entries point to begin at byte 1000."""
    packed = b"".join(struct.pack("<HHLL", *entry) for entry in sorted(entries))
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<L", following)
    return (b"II*\0\x08\0\0\0" + directory).ljust(1000, b"\0") + rest


def _crafted_tiff() -> Iterator[tuple[str, bytes]]:
    def plain(width: int = 10, height: int = 10, **changes: tuple[int, int, int, int]) -> list:
        entries = {
            "width": (256, 4, 1, width), "height": (257, 4, 1, height), "bits": (258, 3, 1, 8),
            "packing": (259, 3, 1, 1), "colours": (262, 3, 1, 1), "strips": (273, 4, 1, 1000),
            "rows": (278, 4, 1, height), "lengths": (279, 4, 1, 100),
        }  # fmt: skip
        return list((entries | changes).values())

    pixels = bytes(100)
    yield "TIFF", _tiff(*plain(), rest=pixels)
    yield "TIFF that follows itself", _tiff(*plain(), rest=pixels, following=8)
    for side in (0, 65_535, 2**31 - 1, 2**32 - 1):
        yield f"TIFF of {side}", _tiff(*plain(side, min(side, 2**16 - 1)), rest=pixels)
    for count in (0, 2**16, 2**31, 2**32 - 1):
        yield f"TIFF of {count} strips", _tiff(*plain(strips=(273, 4, count, 1000)), rest=pixels)
    strips = plain(strips=(273, 4, 240_000, 1000), rows=(278, 4, 1, 1))
    yield "TIFF of 240,000 strips", _tiff(*strips, rest=struct.pack("<L", 1000) * 240_000)
    apart = struct.pack("<2L", 8, 900_000) * 100_000
    strips = plain(strips=(273, 4, 200_000, 1000), rows=(278, 4, 1, 1))
    yield "TIFF of strips far apart", _tiff(*strips, rest=apart)
    bits = plain(bits=(258, 3, 500_000, 1000))
    yield "TIFF of 500,000 depths", _tiff(*bits, rest=bytes(10**6))
    samples = plain(samples=(277, 3, 1, 65_535))
    yield "TIFF of 65,535 samples", _tiff(*samples, rest=pixels)
    for packing in range(1, 10):
        yield f"TIFF packed by {packing}", _tiff(*plain(packing=(259, 3, 1, packing)), rest=pixels)
    zeros = _zeros(2**28)
    tiles = plain(packing=(259, 3, 1, 8), lengths=(325, 4, 1, len(zeros)), strips=(324, 4, 1, 1000),
                  wide=(322, 4, 1, 2**14), long=(323, 4, 1, 2**14))  # fmt: skip
    yield "TIFF of a tile of a quarter of a gigabyte", _tiff(*tiles, rest=zeros)
    strip = plain(packing=(259, 3, 1, 8), rows=(278, 4, 1, 2**32 - 1),
                  lengths=(279, 4, 1, len(zeros)))  # fmt: skip
    yield "TIFF of an endless strip", _tiff(*strip, rest=zeros)
    sub = plain(sub=(330, 4, 1, 8), exif=(34665, 4, 1, 8), gps=(34853, 4, 1, 8))
    yield "TIFF of directories in a ring", _tiff(*sub, rest=pixels)
    page = struct.pack("<H", 0)
    chain = b"".join(page + struct.pack("<L", 1000 + 6 * n) for n in range(1, 150_000))
    yield "TIFF of 150,000 pages", _tiff(*plain(), rest=chain + page + bytes(4), following=1000)
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**40)
    yield "BigTIFF of a trillion entries", big + bytes(2000)


def _crafted_jpeg() -> Iterator[tuple[str, bytes]]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8))
    plain = encoded(image, "JPEG")
    start = plain.index(b"\xff\xc0") + 5
    for side in (0, 5_000, 65_500, 65_535):
        size = struct.pack(">HH", side, side)
        yield f"JPEG of {side}", plain[:start] + size + plain[start + 4 :]
    yield "JPEG of fill bytes", plain[:2] + b"\xff" * 900_000 + plain[2:]
    segment = b"\xff\xe5\0\x02"
    yield "JPEG of 200,000 segments", plain[:2] + segment * 200_000 + plain[2:]
    whole = b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65_533, b"\0")
    yield "JPEG of much EXIF", plain[:2] + whole * 15 + plain[2:]
    parts = b"".join(
        b"\xff\xe2\0\x14ICC_PROFILE\0" + bytes([number, 200]) + b"junk" for number in range(1, 99)
    )
    yield "JPEG of half a profile", plain[:2] + parts + plain[2:]
    yield "JPEG of many scans", _many_scans(20_000)
    for name, block in _bad_exif():
        block = b"Exif\0\0" + block[:65_000]
        marked = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
        yield f"JPEG with {name}", plain[:2] + marked + plain[2:]


def _many_scans(count: int) -> bytes:
    """Each scan goes over all pixels, and costs a few bytes."""
    out = io.BytesIO()
    Image.new("L", (700, 700), 99).save(out, "JPEG", progressive=True)
    file = out.getvalue()
    last = file.rindex(b"\xff\xda")
    return file[:last] + file[last:-2] * count + file[-2:]


def _crafted_boxes() -> Iterator[tuple[str, bytes]]:
    """RIFF's chunks and ISO's boxes."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    described = encoded(image, "WEBP", exif=exif_of(orientation=6))
    canvas = described.index(b"VP8X") + 12
    for side in (0, 999, 16_000, 2**24 - 1):
        size = side.to_bytes(3, "little") * 2
        yield f"WebP on a canvas of {side}", described[:canvas] + size + described[canvas + 6 :]
    lossless = encoded(image, "WEBP", lossless=True)
    yield "WebP of 16,384", lossless[:21] + b"\xff\xff\xff\xff" + lossless[25:]
    blank = [Image.new("RGB", (16, 16), (n % 256, n // 256, 0)) for n in range(600)]
    moving = encoded(blank[0], "WEBP", save_all=True, append_images=blank[1:])
    yield "WebP of 600 frames", moving
    names = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + 1024)
    header = struct.pack("<IiiHHIIiiII", 40, 700, 700, 1, 8, 1, 0, 0, 0, 0, 0)
    yield "BMP of ends of lines", names + header + bytes(1024 + 900_000)
    for format in ("AVIF", "HEIC"):
        file = encoded(image, format)
        start = file.index(b"ispe") + 8
        for side in (0, 1, 4_000, 2**15, 2**31 - 1, 2**32 - 1):
            size = struct.pack(">II", side, side)
            yield f"{format} of {side}", file[:start] + size + file[start + 8 :]
