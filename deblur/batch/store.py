"""Reading and writing where a store may be away for a moment."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from deblur.data.storage import Location, read_bytes, write_file
from deblur.errors import DataError, PictureError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Seconds between attempts, beside those that a store's own client makes.
PAUSES = (1.0, 2.0, 4.0, 8.0)
#: What the name of one file is to blame for: the others may well be written.
_OF_THE_NAME = {
    errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ,
}  # fmt: skip


def read_picture_file(file: Location) -> bytes:
    """The bytes of a picture.

    Raises:
        PictureError: there is no such file any more, or this one may not be read.
        DataError: the store cannot be reached, after several attempts.
    """
    try:
        return patiently(lambda: read_bytes(file), f"read {file}")
    except FileNotFoundError:
        raise PictureError(f"{file} is gone: it was there when the source was listed") from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise PictureError(f"{file} cannot be read: {error.strerror or error}") from None


def write_picture_file(file: Location, content: bytes) -> None:
    """Write a result, whole or not at all.

    Raises:
        PictureError: the target cannot hold a file of this name.
        DataError: the store cannot be reached, is full, or refuses.
    """
    try:
        patiently(lambda: write_file(file, content), f"write {file}")
    except OSError as error:
        if error.errno not in _OF_THE_NAME:
            raise
        raise PictureError(
            f"{file} cannot be written ({error.strerror}): rename the picture in the source"
        ) from None


def patiently(call: Callable[[], Result], what: str) -> Result:
    """What ``call`` returns, tried again where a store does not answer.

    Raises:
        DataError: it still does not, or it refuses.
        FileNotFoundError, PermissionError, OSError: of one local file, at once.
    """
    for pause in (*PAUSES, None):
        try:
            return call()
        except DataError as error:
            # A wrong key is as wrong the next time.
            if pause is None or isinstance(error.__context__, PermissionError):
                raise
            said: Exception = error
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise DataError(
                    f"cannot {what}: {error.strerror}; make room, then run the same command again"
                ) from None
            if error.errno not in (errno.EIO, getattr(errno, "ESTALE", errno.EIO)):
                raise
            if pause is None:
                raise DataError(f"cannot {what}: {error.strerror}") from None
            said = error
        log.warning("cannot %s (%s); next attempt in %g s", what, said, pause)
        time.sleep(pause)
    raise AssertionError("unreachable")
