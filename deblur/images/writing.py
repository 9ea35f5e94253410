"""Writing pictures."""

import io
from typing import Any

import numpy as np
from PIL import Image

from deblur.errors import PictureError
from deblur.images.colours import to_srgb
from deblur.images.formats import FORMATS, HEIC_INSTALLED, INSTALL_HEIC
from deblur.images.metadata import colours_of, is_srgb
from deblur.images.picture import Picture

_WITHOUT_ALPHA = ("JPEG", "BMP")
_WITHOUT_METADATA = ("BMP",)
_JPEG_SEGMENT = 65533  # bytes of EXIF at most; a profile is cut in several

#: Of 4 megapixels on one core: level 3 takes 0.4 s, Pillow's default 6 takes 1.1 s for 4 % less.
_PNG_LEVEL = 3
#: The same: speed 8 takes 1.2 s, Pillow's default 6 takes 3.6 s for 1 dB more.
_AVIF_SPEED = 8
#: The same: 1.6 s, where the default takes 5.6 s for 8 % less.
_HEIC_PRESET = "ultrafast"

_BAND = 2**20  # pixels


def encode_picture(
    picture: Picture, format: str | None = None, quality: int = 95, keep_metadata: bool = True
) -> bytes:
    """Encode a picture.

    Args:
        picture: the picture.
        format: a key of ``FORMATS``; by default the one that the picture came in.
        quality: 1 to 100, for JPEG, WebP, AVIF and HEIC. WebP is lossless at 100, and halves the
            resolution of colour below; the others keep it.
        keep_metadata: write EXIF and ICC profile. Without, other colours than sRGB are converted
            to it.

    Raises:
        PictureError: the format is unknown, or cannot hold a picture of this size.
    """
    format = format or picture.format
    if format == "HEIC" and not HEIC_INSTALLED:
        raise PictureError(f"cannot write 'HEIC': {INSTALL_HEIC}")
    if format not in FORMATS:
        raise PictureError(f"cannot write '{format}': expected one of {', '.join(FORMATS)}")
    image = _image_of(picture, format)
    metadata: dict[str, Any] = {}
    if not keep_metadata:
        image = _in_srgb(image, picture.icc)
    elif format not in _WITHOUT_METADATA:
        grey = image.mode in ("L", "LA")
        if picture.icc and colours_of(picture.icc) == ("GRAY" if grey else "RGB"):
            metadata["icc_profile"] = picture.icc
        if picture.exif and not (format == "JPEG" and len(picture.exif) > _JPEG_SEGMENT):
            metadata["exif"] = picture.exif
    out = io.BytesIO()
    try:
        if format == "HEIC":
            _write_heic(image, out, quality, metadata)
        else:
            options = _options(format, image.mode, quality, "exif" in metadata)
            image.save(out, format, **options, **metadata)
    except (OSError, ValueError, RuntimeError) as error:
        raise PictureError(
            f"cannot write {image.width}x{image.height} pixels as {format} ({error}): "
            "choose another format"
        ) from None
    return out.getvalue()


def _image_of(picture: Picture, format: str) -> Image.Image:
    """L, LA, RGB or RGBA, whichever the format holds."""
    alpha = picture.alpha
    if alpha is not None and format in _WITHOUT_ALPHA:
        image = Image.fromarray(_on_white(picture.rgb, alpha))
        alpha = None
    else:
        image = Image.fromarray(picture.rgb)
    if picture.grey:
        image = image.convert("L")
        if format == "WEBP" or (alpha is not None and format in ("AVIF", "HEIC")):
            image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """As on the white page of a browser. The colour below full transparency is arbitrary, often
    black."""
    out = np.empty_like(rgb)
    rows = max(1, _BAND // rgb.shape[1])
    for top in range(0, len(rgb), rows):
        share = alpha[top : top + rows, :, None].astype(np.uint16)
        mixed = rgb[top : top + rows] * share + 255 * (255 - share)
        out[top : top + rows] = (mixed + 127) // 255
    return out


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Pixels without a profile are taken for sRGB."""
    if profile is None or image.mode not in ("RGB", "RGBA") or is_srgb(profile):
        return image
    convert = to_srgb(profile, "RGB") if colours_of(profile) == "RGB" else None
    if convert is None:
        return image
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        converted = convert(band.convert("RGB"))
        if image.mode == "RGBA":
            converted.putalpha(band.getchannel("A"))
        image.paste(converted, (0, top))
    return image


def _options(format: str, mode: str, quality: int, has_exif: bool) -> dict[str, Any]:
    if format == "JPEG":
        return {"quality": quality, "subsampling": 0}
    if format == "PNG":
        return {"compress_level": _PNG_LEVEL}
    if format == "WEBP":
        # Lossless, quality is the effort: 30 takes 1.7 s for 4 megapixels.
        lossless = {"lossless": True, "quality": 30, "method": 1}
        return lossless if quality == 100 else {"quality": quality}
    if format == "TIFF":
        # The compressing encoder cannot write EXIF's own directories.
        return {} if has_exif else {"compression": "tiff_adobe_deflate"}
    if format == "AVIF":
        colour = {} if mode == "L" else {"subsampling": "4:4:4"}
        return {"quality": quality, "speed": _AVIF_SPEED, "max_threads": 1, **colour}
    return {}


def _write_heic(
    image: Image.Image, out: io.BytesIO, quality: int, metadata: dict[str, Any]
) -> None:
    import pillow_heif

    pillow_heif.encode(
        image.mode,
        image.size,
        image.tobytes(),
        out,
        quality=quality,
        enc_params={"chroma": "444", "preset": _HEIC_PRESET, "x265:pools": "1"},
        **metadata,
    )
