"""Opening an encoded picture by its header.

Pillow's ``Image.open`` is not used. It holds every picture to a limit on pixels that is one for the
whole process, and warns above half of it; here the limit is the caller's. The formats' own classes
are opened instead, and what is global in Pillow stays as it is.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from deblur.errors import PictureError, PictureTooLargeError
from deblur.images.directories import check_directories
from deblur.images.formats import (
    FORMATS,
    HEAD_BYTES,
    HEIC_INSTALLED,
    INSTALL_HEIC,
    Limits,
    format_of,
)
from deblur.images.segments import check_jpeg, check_png

if TYPE_CHECKING:
    from upath import UPath

#: Tiles of a TIFF may be larger than the picture, up to this many megapixels.
_TIFF_TILE = 16.0
_TILE_WIDTH, _TILE_LENGTH = 322, 323


class _Tiff(TiffImagePlugin.TiffImageFile):
    """As stored: Pillow's own class turns the pixels, which copies them."""

    def _setup(self) -> None:
        super()._setup()
        self._size = self._tile_size

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)

    def load_end(self) -> None:
        pass


def _open_jpeg(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    check_jpeg(stream)
    stream.seek(0)
    return JpegImagePlugin.jpeg_factory(stream, name)


def _open_png(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    check_png(stream)
    stream.seek(0)
    return PngImagePlugin.PngImageFile(stream, name)


def _open_tiff(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    check_directories(stream)
    stream.seek(0)
    return _Tiff(stream, name)


def _open_avif(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    # Pillow takes the number of threads from here alone. Several pictures are decoded side by side,
    # beside a network that uses all cores.
    AvifImagePlugin.DEFAULT_MAX_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS or 1
    return AvifImagePlugin.AvifImageFile(stream, name)


def _open_heic(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    if not HEIC_INSTALLED:
        raise PictureError(f"{name} cannot be read: {INSTALL_HEIC}, or convert it to JPEG")
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1
    opened: ImageFile.ImageFile = pillow_heif.HeifImageFile(stream, name)
    return opened


_OPENERS: dict[str, Callable[[Any, str], ImageFile.ImageFile]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": _open_tiff,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
}


@contextmanager
def opened_picture(
    source: "bytes | Path | UPath", limits: Limits, name: str, first_frame: bool
) -> Iterator[tuple[ImageFile.ImageFile, str]]:
    """The opened file and its format, within the limits, not decoded.

    Errors of the block, which decodes it, are raised as ``PictureError`` too.

    Raises:
        PictureTooLargeError: more bytes or pixels than the limits allow.
        PictureError: not a picture, not an accepted format, damaged, or of several frames while
            ``first_frame`` is false.
    """
    with _stream_of(source, limits, name) as stream:
        head = stream.read(HEAD_BYTES)
        if not head:
            raise PictureError(f"{name} is empty: expected an encoded picture ({accepted()})")
        format = format_of(head)
        if format is None:
            raise PictureError(
                f"{name} is not a picture that can be read (it begins with {head[:8]!r}): "
                f"expected {accepted()}; convert it to one of these"
            )
        stream.seek(0)
        try:
            opened = _OPENERS[format](stream, name)
        except (PictureError, MemoryError):
            raise
        except Image.DecompressionBombError:
            # Only WebP's class looks at the limit of the process. Most of its sides have 16,383.
            raise PictureTooLargeError(
                f"{name} has more pixels than WebP files are read with: convert it to PNG or JPEG"
            ) from None
        except Exception as error:  # a damaged field ends in TypeError, KeyError, struct.error, ...
            raise PictureError(
                f"{name} cannot be opened as {format} ({error}): expected a complete file"
            ) from None
        with opened:
            _check(opened, limits, name, first_frame)
            try:
                yield opened, format
            except (PictureError, MemoryError):
                raise
            except Exception as error:
                raise PictureError(
                    f"{name} is damaged or truncated ({error}): expected a complete file"
                ) from None


def accepted() -> str:
    """The accepted formats, for a sentence."""
    return ", ".join(FORMATS)


def frames_of(opened: ImageFile.ImageFile) -> int:
    """Frames or pages. A TIFF with several counts as two: they are found by walking through it."""
    if opened.format == "MPO":
        return 1  # phones append a preview to their JPEGs and call it so
    if opened.format == "TIFF":
        return 2 if getattr(opened, "is_animated", False) else 1
    return getattr(opened, "n_frames", 1)


def _stream_of(source: "bytes | Path | UPath", limits: Limits, name: str) -> BinaryIO:
    if isinstance(source, bytes):
        size = len(source)
    else:
        try:
            size = source.stat().st_size
        except FileNotFoundError:
            raise PictureError(f"{name} does not exist: expected a picture file") from None
    if size > limits.megabytes * 2**20:
        raise PictureTooLargeError(
            f"{name} has {size / 2**20:.1f} MiB, the limit is {limits.megabytes:g} MiB: "
            "send a smaller file or raise the limit"
        )
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return source.open("rb")
    except OSError as error:
        raise PictureError(
            f"{name} cannot be opened ({error}): expected a file of {accepted()}"
        ) from None


def _check(opened: ImageFile.ImageFile, limits: Limits, name: str, first_frame: bool) -> None:
    megapixels = opened.width * opened.height / 1e6
    if megapixels > limits.megapixels:
        raise PictureTooLargeError(
            f"{name} has {opened.width}x{opened.height} = {megapixels:.1f} megapixels, the "
            f"limit is {limits.megapixels:g}: send a smaller picture or raise the limit"
        )
    if isinstance(opened, _Tiff):
        tile = opened.tag_v2.get(_TILE_WIDTH, 0), opened.tag_v2.get(_TILE_LENGTH, 0)
        # A tile is decoded whole, however small the picture is that it covers.
        if tile[0] * tile[1] / 1e6 > max(limits.megapixels, _TIFF_TILE):
            raise PictureTooLargeError(
                f"{name} has tiles of {tile[0]}x{tile[1]} pixels for {opened.width}x"
                f"{opened.height}: save it with smaller ones"
            )
    frames = frames_of(opened)
    if frames > 1 and not first_frame:
        number = "several" if opened.format == "TIFF" else str(frames)
        raise PictureError(
            f"{name} has {number} frames or pages: send them one by one, or ask for the first "
            "alone with frames=first"
        )
