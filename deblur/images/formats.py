"""The accepted formats, what tells them apart, and the limits."""

from dataclasses import dataclass
from importlib.util import find_spec

#: Whether the extra ``heic`` is installed.
HEIC_INSTALLED = find_spec("pillow_heif") is not None

#: The formats that can be read and written here, and their media types.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
} | ({"HEIC": "image/heic"} if HEIC_INSTALLED else {})

#: HEIC is among them without the extra too, so that its files are seen and the extra is named.
SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP", ".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC",
}  # fmt: skip

INSTALL_HEIC = "HEIC needs another package: pip install 'deblur[heic]'"

#: So many first bytes tell the format.
HEAD_BYTES = 64

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Limits:
    """What is accepted, told before decoding.

    Attributes:
        megabytes: size of the file, in 2^20 bytes.
        megapixels: width times height, in 10^6.
    """

    megabytes: float = 64.0
    megapixels: float = 100.0


#: For data of one's own: beyond it 7 GB would be held, and no photograph is that large.
TRUSTED = Limits(megabytes=float("inf"), megapixels=1000.0)


def format_of(head: bytes) -> str | None:
    """The format that a file's first ``HEAD_BYTES`` announce: a key of ``FORMATS``, or HEIC."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(_TIFF_HEADS):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:8] == b"ftyp":
        return _format_of_brands(head)
    return None


def _format_of_brands(head: bytes) -> str | None:
    """By ISO/IEC 14496-12, 4.3: the major brand, and behind the version the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    for brand in (head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))):
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIC_BRANDS:
            return "HEIC"
    return None
