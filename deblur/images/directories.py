"""How much the directories of a TIFF file or an EXIF block hold, told before Pillow unpacks them.

Pillow makes a Python object of every number in a directory, and one of every strip. A file of
64 MiB can hold sixteen million, which take gigabytes.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

#: In one directory. Of numbers: offsets and lengths of 65,536 strips or tiles. Pillow takes about
#: 10 us for each.
MOST_NUMBERS = 2**17
MOST_ENTRIES = 1024

_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005

#: Bytes of a value by its type (TIFF 6.0, section 2). Bytes, text and opaque blocks stay in one
#: piece and are not among them.
_NUMBERS = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def check_directories(stream: BinaryIO) -> None:
    """Look through the first directory and those of EXIF in it; leaves ``stream`` anywhere.

    Raises:
        ValueError: one of them has too many entries or numbers.
    """
    head = stream.read(16)
    size = stream.seek(0, 2)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    except struct.error:
        return
    # Each tag leads on from one directory alone, so that no chain of them goes round.
    pointers: list[tuple[int, tuple[int, ...]]] = [(first, (_EXIF, _GPS))]
    while pointers:
        numbers = 0
        pointer, leading = pointers.pop()
        for tag, kind, count, value in _entries(stream, pointer, order, big):
            if tag in leading:
                pointers.append((value, (_INTEROPERABILITY,) if tag == _EXIF else ()))
            if kind in _NUMBERS and count * _NUMBERS[kind] <= size:  # Pillow skips larger ones
                numbers += count
        if numbers > MOST_NUMBERS:
            raise ValueError(f"a directory of {numbers} numbers, at most {MOST_NUMBERS} are read")


def _entries(
    stream: BinaryIO, offset: int, order: str, big: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value of each entry that is there."""
    layout = struct.Struct(order + ("HHQQ" if big else "HHLL"))
    width = "Q" if big else "H"
    if offset >= 2**63:
        return
    stream.seek(offset)
    head = stream.read(struct.calcsize(width))
    if len(head) < struct.calcsize(width):
        return
    (count,) = struct.unpack(order + width, head)
    if count > MOST_ENTRIES:
        raise ValueError(f"a directory of {count} entries, at most {MOST_ENTRIES} are read")
    block = stream.read(count * layout.size)
    yield from layout.iter_unpack(block[: len(block) // layout.size * layout.size])
