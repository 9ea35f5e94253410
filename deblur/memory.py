"""Memory that has been freed, back to the system."""

import ctypes
from functools import cache
from typing import Any


def give_back_memory() -> None:
    """Let the C library return what it keeps for later. Does nothing where it cannot be asked.

    glibc keeps freed blocks of up to 32 MB, of which Pillow's pictures are made: after decoding
    100 megapixels it keeps 400 MB.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim  # glibc; neither musl nor macOS has it
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return None
