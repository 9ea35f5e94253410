"""How many parts a file has, told before it is decoded.

Pillow goes through the segments of a JPEG and the chunks of a PNG one by one in Python, and each
scan of a progressive JPEG goes over all pixels again: a small file could take minutes.
"""

import re
import struct
from typing import BinaryIO

#: As in libtiff; encoders write about ten.
MOST_SCANS = 100
#: A profile or EXIF of many megabytes is cut in segments of 64 KiB.
MOST_SEGMENTS = 4096
#: 64 MiB in chunks of 8 KiB, as libpng writes them, are 8,192.
MOST_CHUNKS = 2**16

_START_OF_SCAN, _END = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
#: Within a scan 0xFF stands before a zero, or begins a restart marker.
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"[\xff\x00]{0,65536}")


def check_jpeg(stream: BinaryIO) -> None:
    """Walk through the markers (ITU-T T.81, B.1.1) up to the end of the picture.

    Raises:
        ValueError: too many segments or scans, or too much filling between segments.
    """
    file = stream.read()
    at, scans, segments = 2, 0, 0
    while at < len(file):
        filling = _FILL.match(file, at)
        at = filling.end() if filling else at
        if filling and len(filling.group()) > 0xFFFF:
            raise ValueError("64 KiB of filling between two segments")
        if at >= len(file):
            return
        marker = file[at]
        at += 1
        if marker == _END:
            return
        segments += 1
        if segments > MOST_SEGMENTS:
            raise ValueError(f"more than {MOST_SEGMENTS} segments")
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(file[at : at + 2], "big")
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MOST_SCANS:
                raise ValueError(f"more than {MOST_SCANS} scans")
            following = _AFTER_SCAN.search(file, at)
            if following is None:
                return
            at = following.start()


def check_png(stream: BinaryIO) -> None:
    """Walk through the chunks.

    Raises:
        ValueError: there are too many.
    """
    at, chunks = 8, 0
    stream.seek(at)
    while len(head := stream.read(8)) == 8:
        chunks += 1
        if chunks > MOST_CHUNKS:
            raise ValueError(f"more than {MOST_CHUNKS} chunks")
        (size,) = struct.unpack_from(">I", head)
        at += 12 + size
        stream.seek(at)
