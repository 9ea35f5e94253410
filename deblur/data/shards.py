"""Shards: files of raw pixels, memory-mapped when read.

A shard is a one-dimensional ``.npy`` array of uint8 (NumPy's format, version 1.0) with the pairs of
a run one after another, each the blurred picture ``[H, W, 3]`` and then the sharp one.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from deblur.atomic import whole_file
from deblur.data.listing import Pair
from deblur.data.manifest import PairEntry, Shard
from deblur.digests import fraction_of, json_sha256
from deblur.errors import DataError

#: Pairs in a shard, on average.
SHARD_PAIRS = 32
_HEADER = 128  # bytes of the header of any one-dimensional array


def cut(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """Runs of pairs, cut by the pairs' own names (content-defined chunking).

    A picture more or less changes one or two runs, not all that follow, and the cuts are a function
    of the data alone.
    """
    run: list[Pair] = []
    for pair in pairs:
        if run and fraction_of(f"{pair.scene}/{pair.name}") < 1 / SHARD_PAIRS:
            yield run
            run = []
        run.append(pair)
    yield run


def shard_name(split: str, entries: Iterable[PairEntry]) -> str:
    """The file name of the shard that holds these pairs: a function of what it is made from."""
    content = [(e.height, e.width, e.blur_sha256, e.sharp_sha256) for e in entries]
    return f"{split}-{json_sha256(content)[:16]}.npy"


def write_shard(
    folder: Path, split: str, pairs: Iterable[tuple[PairEntry, tuple[np.ndarray, np.ndarray]]]
) -> tuple[list[PairEntry], Shard]:
    """Write pairs as they come; the shard appears whole, under the name that they give it.

    Args:
        folder: where to.
        split: the first part of the name.
        pairs: each with its blurred and its sharp picture, ``[H, W, 3]`` uint8.
    """
    entries = []
    digest = sha256()
    unnamed = folder / "building.npy"
    with whole_file(unnamed) as partial, partial.open("wb") as file:
        file.seek(_HEADER)
        for entry, pictures in pairs:
            entries.append(entry)
            for picture in pictures:
                digest.update(picture.data)
                file.write(picture.data)
        size = file.tell() - _HEADER
        file.seek(0)
        layout = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, layout)
        if file.tell() != _HEADER:
            raise RuntimeError(f"NumPy wrote a header of {file.tell()} bytes, expected {_HEADER}")
    shard = Shard(shard_name(split, entries), len(entries), size, digest.hexdigest())
    unnamed.replace(folder / shard.file)
    return entries, shard


def read_shard(folder: Path, file: str) -> np.ndarray:
    """The raw bytes of a shard, memory-mapped: ``[n]`` uint8.

    Raises:
        DataError: it is missing or not a shard.
    """
    path = folder / file
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}): prepare the data again") from None
    if mapped.dtype != np.uint8 or mapped.ndim != 1:
        raise DataError(
            f"{path} holds {mapped.dtype} {mapped.shape}, expected a row of uint8: delete it and "
            "prepare the data again"
        )
    return np.asarray(mapped)  # slicing the subclass np.memmap takes longer than a crop
