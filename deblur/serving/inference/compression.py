"""gzip and deflate of bodies, as the clients of the protocol offer them (RFC 9110, 8.4.1)."""

import re
import zlib

from deblur.errors import PictureTooLargeError
from deblur.serving.inference.tensors import InferenceRequestError

#: zlib's ``wbits`` of each coding; "deflate" is the zlib format.
_WINDOWS = {"gzip": 31, "deflate": 15}

#: The values of photographs hardly shrink at any level; the first is several times as fast.
_LEVEL = 1

_REFUSED = re.compile(r"q=0(\.0*)?")


def decompress(body: bytes, coding: str, most: int) -> bytes:
    """The body without its compression.

    Args:
        body: as it came.
        coding: the header ``Content-Encoding``.
        most: bytes that it may have; no more are ever written.

    Raises:
        PictureTooLargeError: it has more.
        InferenceRequestError: another coding, or damaged.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in _WINDOWS:
        raise InferenceRequestError(
            f"the body has the Content-Encoding '{coding[:80]}': send it as gzip, deflate, or as "
            "it is"
        )
    stream = zlib.decompressobj(_WINDOWS[coding])
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise InferenceRequestError(
            f"the body is not {coding}, or damaged ({error}): send it as its Content-Encoding says"
        ) from None
    if len(content) > most:
        raise PictureTooLargeError(
            f"the body is larger than the limit of {most / 2**20:g} MiB once decompressed: send "
            "fewer or smaller pictures"
        )
    if not stream.eof or stream.unused_data:
        found = "more than one stream" if stream.eof else "truncated"
        raise InferenceRequestError(f"the {coding} of the body is {found}: send one whole stream")
    return content


def compress(content: bytes, coding: str) -> bytes:
    """The body in a coding that ``accepted_coding`` gave."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[coding])
    return stream.compress(content) + stream.flush()


def accepted_coding(accept_encoding: str) -> str | None:
    """The coding for the answer by the header ``Accept-Encoding``; ``None`` for as it is."""
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding in _WINDOWS and not any(_REFUSED.fullmatch(p) for p in parameters):
            return coding
    return None
