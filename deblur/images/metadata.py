"""What EXIF and the colour profile say about a picture, and what of them is kept."""

import io

from PIL import Image

from deblur.images.directories import check_directories

ORIENTATION = 0x0112
_EXIF = 0x8769

#: Tags that are not kept, as they do not hold for the pixels that are written: the orientation, how
#: the pixels were stored in a TIFF, and what else shows or turns them (XMP, previews).
_OF_THE_PIXELS = frozenset(
    {ORIENTATION, *range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301}
    | {*range(317, 348), *range(512, 533), 700, 0x501B, 34377, 34675}
)
#: The same within EXIF's own directory: bits a pixel, width, height. A maker's note often holds a
#: preview, and refers to places in the file that it was in.
_OF_THE_PIXELS_IN_EXIF = frozenset({0x9102, 0x927C, 0xA002, 0xA003})

_ICC_HEADER = 128


def exif_of(opened: Image.Image, decodes: bool = True) -> Image.Exif:
    """The EXIF block, with the orientation of XMP where EXIF has none.

    Args:
        opened: an opened file. A PNG is decoded, because the block may lie behind the pixels,
            unless ``decodes`` is false.

    Raises:
        Exception: the block is damaged; Pillow raises what it happens to run into.
    """
    block = opened.info.get("exif")
    if isinstance(block, bytes):
        check_directories(io.BytesIO(block.removeprefix(b"Exif\0\0")))
    return opened.getexif() if decodes else Image.Image.getexif(opened)


def orientation_of(exif: Image.Exif) -> int:
    """1 to 8 (EXIF 2.32, 4.6.4), 1 for anything else."""
    value = exif.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def kept_exif(exif: Image.Exif) -> bytes | None:
    """The block without what does not hold for the pixels that are written. The second directory,
    which holds a thumbnail, is never written by Pillow."""
    for tag in _OF_THE_PIXELS & set(exif):
        del exif[tag]
    if _EXIF in exif:
        own = exif.get_ifd(_EXIF)
        for tag in _OF_THE_PIXELS_IN_EXIF & set(own):
            del own[tag]
    return exif.tobytes() if len(exif) else None


def colours_of(profile: object) -> str:
    """The colours that an ICC profile describes, as ``RGB``, ``GRAY`` or ``CMYK`` (ICC.1:2022,
    7.2.6); empty if it is not a profile."""
    if not isinstance(profile, bytes) or len(profile) < _ICC_HEADER or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").rstrip()


def is_srgb(profile: bytes) -> bool:
    """Whether the profile calls itself sRGB."""
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile
