"""The one policy for reading and writing pictures.

Reading: the limits on bytes and pixels are checked from the header, before decoding. The EXIF
orientation is applied. Everything becomes RGB, 8 bit; an alpha channel is set aside and put back,
grey comes back as grey, palette and CMYK become RGB, 16 bit is reduced to 8. Only the formats
below are opened, and only pictures of one frame (of a phone's MPO, the first).
"""

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deblur.errors import PictureError, PictureTooLargeError

if TYPE_CHECKING:
    from upath import UPath

#: Pillow's names of the accepted formats, and their media types.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
SUFFIXES = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
}  # fmt: skip

_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
_ORIENTATION = 0x0112
#: TIFF tags on how the pixels are stored: wrong for the pixels that are written, so not kept.
_STORAGE_TAGS = frozenset(
    {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301}
    | {*range(317, 348), *range(512, 533), 700, 34377, 34675}
)


@dataclass(frozen=True)
class Limits:
    """What is accepted, told before decoding.

    Attributes:
        megabytes: size of the file, in 2^20 bytes.
        megapixels: width times height, in 10^6.
    """

    megabytes: float = 64.0
    megapixels: float = 100.0


_NO_LIMITS = Limits(megabytes=float("inf"), megapixels=float("inf"))


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: ``[H, W, 3]`` uint8, upright.
        alpha: ``[H, W]`` uint8, or ``None``.
        grey: whether it was grey and goes back to grey.
        format: the Pillow name of the format it came in.
        icc: its ICC profile, kept on writing, or ``None``.
        exif: its EXIF block without the orientation, kept on writing, or ``None``.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    format: str = "PNG"
    icc: bytes | None = None
    exif: bytes | None = None

    def with_rgb(self, rgb: np.ndarray) -> "Picture":
        """The same picture with other pixels of the same size."""
        if rgb.shape != self.rgb.shape:
            raise ValueError(f"expected pixels of shape {self.rgb.shape}, got {rgb.shape}")
        return replace(self, rgb=rgb)


def read_picture(
    source: bytes | Path, limits: Limits = Limits(), name: str | None = None
) -> Picture:
    """Decode one picture.

    Args:
        source: the encoded bytes, or a file.
        limits: what is accepted.
        name: what errors call it; by default the file's name.

    Raises:
        PictureTooLargeError: more bytes or pixels than the limits allow.
        PictureError: not a picture, not an accepted format, damaged, or of several frames.
    """
    name = name or ("the picture" if isinstance(source, bytes) else str(source))
    size = _size_of(source, name)
    if size == 0:
        raise PictureError(f"{name} is empty: expected an encoded picture ({_accepted()})")
    if size > limits.megabytes * 2**20:
        raise PictureTooLargeError(
            f"{name} has {size / 2**20:.1f} MiB, the limit is {limits.megabytes:g} MiB: "
            "send a smaller file or raise the limit"
        )
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            # Our own limit, below, is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(stream, formats=list(FORMATS))
    except Image.DecompressionBombError as error:
        raise PictureTooLargeError(
            f"{name} is too large: {error}; the limit is {limits.megapixels:g} megapixels"
        ) from None
    except UnidentifiedImageError:
        raise PictureError(
            f"{name} is not a picture that can be read (it begins with {_head(source)!r}): "
            f"expected {_accepted()}; convert it to one of these"
        ) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(
            f"{name} cannot be opened ({error}): expected a complete file of {_accepted()}"
        ) from None
    with opened:
        megapixels = opened.width * opened.height / 1e6
        if megapixels > limits.megapixels:
            raise PictureTooLargeError(
                f"{name} has {opened.width}x{opened.height} = {megapixels:.1f} megapixels, the "
                f"limit is {limits.megapixels:g}: send a smaller picture or raise the limit"
            )
        try:
            frames = getattr(opened, "n_frames", 1)
            # Phones append a preview to their JPEGs and call it MPO; the first frame is the photo.
            if frames > 1 and opened.format != "MPO":
                raise PictureError(f"{name} has {frames} frames or pages: send them one by one")
            opened.load()
            return _upright(opened)
        except (PictureError, MemoryError):
            raise
        except Exception as error:  # a damaged field ends in TypeError, KeyError, struct.error, ...
            raise PictureError(
                f"{name} is damaged or truncated ({error}): expected a complete file"
            ) from None


def read_rgb(file: "Path | UPath") -> np.ndarray:
    """``[H, W, 3]`` uint8 of a file, by the same policy, without a limit on trusted data."""
    if isinstance(file, Path):
        return read_picture(file, _NO_LIMITS).rgb
    return decode_rgb(file.read_bytes(), str(file))


def decode_rgb(encoded: bytes, name: str) -> np.ndarray:
    """``[H, W, 3]`` uint8 of a trusted file's bytes; ``name`` is what errors call it."""
    return read_picture(encoded, _NO_LIMITS, name).rgb


def read_size(source: "bytes | Path | UPath", name: str | None = None) -> tuple[int, int]:
    """Height and width of what ``read_rgb`` returns, from the header alone.

    Args:
        source: a file, or its bytes.
        name: what errors call it; by default the file's name.

    Raises:
        PictureError: it cannot be opened.
    """
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream,
            Image.open(stream, formats=list(FORMATS)) as opened,
        ):
            height, width = opened.height, opened.width
            # Pillow turns the size of a TIFF itself, and keeps its EXIF elsewhere.
            if not opened.info.keys() & {"exif", "xmp"} or opened.format == "TIFF":
                return height, width
            sideways = opened.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (width, height) if sideways else (height, width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{name or source!s} cannot be opened ({error}): expected a complete file of "
            f"{_accepted()}"
        ) from None


def encode_picture(picture: Picture, format: str | None = None, quality: int = 95) -> bytes:
    """Encode a picture.

    Args:
        picture: the picture.
        format: a key of ``FORMATS``; by default the one that the picture came in.
        quality: 1 to 100, for JPEG and WebP.
    """
    format = format or picture.format
    if format not in FORMATS:
        raise PictureError(f"cannot write '{format}': expected one of {', '.join(FORMATS)}")
    image = Image.fromarray(picture.rgb)
    if picture.grey:
        image = image.convert("L")
    if picture.alpha is not None and format not in ("JPEG", "BMP"):
        image.putalpha(Image.fromarray(picture.alpha))
    options: dict[str, Any] = {}
    if format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if format == "JPEG":
        options["subsampling"] = 0
    if format == "TIFF":
        # The compressing encoder cannot write EXIF's own directories.
        options["compression"] = None if picture.exif else "tiff_adobe_deflate"
    if format != "BMP":
        if picture.icc:
            options["icc_profile"] = picture.icc
        if picture.exif:
            options["exif"] = picture.exif
    out = io.BytesIO()
    try:
        image.save(out, format=format, **options)
    except (OSError, ValueError) as error:
        raise PictureError(
            f"cannot write {image.width}x{image.height} pixels as {format} ({error}): "
            "choose another format"
        ) from None
    return out.getvalue()


def to_float(pixels: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 to ``[1, 3, H, W]`` float32 in [-1, 1], the networks' range."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
    planes /= 127.5
    planes -= 1.0
    return planes


def to_uint8(planes: np.ndarray) -> np.ndarray:
    """``[1, 3, H, W]`` float in [-1, 1] to ``[H, W, 3]`` uint8: clamped, then rounded."""
    scaled = (planes[0].transpose(1, 2, 0) + 1.0) * 127.5
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def _size_of(source: bytes | Path, name: str) -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except FileNotFoundError:
        raise PictureError(f"{name} does not exist: expected a picture file") from None


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source[:8]
    with source.open("rb") as file:
        return file.read(8)


def _accepted() -> str:
    return ", ".join(FORMATS)


def _upright(opened: Image.Image) -> Picture:
    format, icc = opened.format or "", opened.info.get("icc_profile")
    exif = opened.getexif()
    image = ImageOps.exif_transpose(opened)
    for tag in (_ORIENTATION, *_STORAGE_TAGS):
        exif.pop(tag, None)
    grey = image.mode in _GREY_MODES
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode.startswith("I"):
        # Scaled and rounded; Pillow's own conversion of 16-bit grey would clip.
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    # A CMYK or grey profile does not describe the RGB pixels that are written.
    keeps_profile = image.mode in ("RGB", "RGBA") and not grey
    return Picture(
        rgb=np.array(image.convert("RGB")),
        alpha=alpha,
        grey=grey,
        format=format if format in FORMATS else "JPEG",  # what remains is MPO
        icc=icc if keeps_profile else None,
        exif=exif.tobytes() if len(exif) else None,
    )
