"""Reading pairs: from picture files, or from a prepared memory map. One interface.

``open_pairs`` picks by what it finds. A prepared data set (see ``deblur.data.prepare``) keeps raw
pixels in memory-mapped shards: a 256 crop then costs a copy of 400 kB instead of decoding two PNGs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from deblur.data.layout import Averaging
from deblur.data.listing import Pair, find_pairs, kind_of, list_data
from deblur.data.manifest import SplitEntries, is_prepared, read_manifest
from deblur.data.shards import read_shard
from deblur.errors import DataError
from deblur.images import read_rgb, read_size

Box = tuple[slice, slice]


class Pairs(Protocol):
    """A sequence of pairs of ``[H, W, 3]`` uint8 pictures."""

    scenes: list[str]
    names: list[str]

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        ...

    def read(self, index: int, box: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(blurred, sharp)``: the whole pictures, or the rows and columns of ``box``.

        The arrays may be views of a memory map that cannot be written to.
        """
        ...


class FolderPairs:
    """Pairs decoded from their picture files on every read."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        self.scenes = [pair.scene for pair in self.pairs]
        self.names = [pair.name for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.pairs[index].blur)

    def read(self, index: int, box: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
        blurred, sharp = read_rgb(self.pairs[index].blur), read_rgb(self.pairs[index].sharp)
        require_equal_sizes(self.pairs[index], blurred.shape[:2], sharp.shape[:2])
        return (blurred, sharp) if box is None else (blurred[box], sharp[box])


class PreparedPairs:
    """Pairs read from the memory-mapped shards of one split.

    Raises:
        DataError: a shard is missing, or not of the size that the manifest says.
    """

    def __init__(self, folder: Path, split: SplitEntries) -> None:
        self.folder = folder
        self.entries = split.pairs
        self.shards = split.shards
        self.scenes = [entry.scene for entry in self.entries]
        self.names = [entry.name for entry in self.entries]
        self._places: list[tuple[int, int]] = []  # shard and offset of each pair
        remaining = iter(self.entries)
        for number, shard in enumerate(self.shards):
            offset = 0
            for _ in range(shard.pairs):
                self._places.append((number, offset))
                offset += next(remaining).bytes
        self._maps: dict[int, np.ndarray] = {}
        for number in range(len(self.shards)):
            self._map(number)  # now, so that a damaged shard is found before an hour of training

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict:
        # A memory map would travel to a worker as a copy of the whole file.
        return {**self.__dict__, "_maps": {}}

    def _map(self, number: int) -> np.ndarray:
        if number not in self._maps:
            self._maps[number] = read_shard(self.folder, self.shards[number].file)
            expected = self.shards[number].bytes
            if self._maps[number].shape != (expected,):
                raise DataError(
                    f"{self.folder / self.shards[number].file} holds {self._maps[number].shape} "
                    f"bytes, its manifest says {expected}: delete it and prepare the data again"
                )
        return self._maps[number]

    def size(self, index: int) -> tuple[int, int]:
        return self.entries[index].height, self.entries[index].width

    def read(self, index: int, box: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
        entry = self.entries[index]
        shard, offset = self._places[index]
        raw = self._map(shard)[offset : offset + entry.bytes]
        pictures = raw.reshape(2, entry.height, entry.width, 3)
        if box is not None:
            pictures = pictures[:, box[0], box[1]]
        return pictures[0], pictures[1]


def require_equal_sizes(pair: Pair, blurred: tuple[int, ...], sharp: tuple[int, ...]) -> None:
    """Raise a ``DataError`` if the pictures of a pair differ in height or width."""
    if blurred != sharp:
        (height, width), (other_height, other_width) = blurred, sharp
        raise DataError(
            f"{pair.blur} is {width}x{height}, but its sharp picture is "
            f"{other_width}x{other_height}: both must have the same size; replace one, or remove "
            "the pair"
        )


def open_pairs(data: Path | str, split: str, subset: Averaging = "blur") -> Pairs:
    """The pairs of a split of a data set, prepared or not.

    Args:
        data: a prepared folder, or whatever ``deblur.data.listing`` finds pairs in.
        split: ``train``, ``val`` or ``test``.
        subset: which blurred folder; a prepared folder must have been made from this one.

    Raises:
        DataError: there is no such data or split, or it was prepared from the other subset.
    """
    if not is_prepared(data):
        return FolderPairs(find_pairs(data, split, subset))
    manifest = read_manifest(Path(data))
    if split not in manifest.splits:
        raise DataError(f"{data} has no split '{split}', only {', '.join(manifest.splits)}")
    if manifest.subset != subset:
        raise DataError(
            f"{data} was prepared from '{manifest.subset}', but '{subset}' is asked for: "
            f"ask for {manifest.subset}, or prepare '{subset}' into another folder"
        )
    return PreparedPairs(Path(data), manifest.splits[split])


def data_kind(data: Path | str, subset: Averaging = "blur") -> str:
    """``simulated`` or ``recorded``, of a data set prepared or not."""
    if is_prepared(data):
        return read_manifest(Path(data)).kind
    return kind_of(list_data(data, subset))
