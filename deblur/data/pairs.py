"""Reading pairs: from a folder of pictures, or from a prepared memory map. One interface.

``open_pairs`` picks by what it finds. A prepared data set (see ``deblur.data.prepare``) keeps the
raw pixels of a split in one ``.npy`` file: a 256 crop then costs a copy of 400 kB instead of
decoding two PNGs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from deblur.data.blur import Averaging
from deblur.data.layout import Pair, existing_splits, find_pairs
from deblur.errors import DataError
from deblur.images import read_rgb, read_size

MANIFEST = "manifest.json"
#: Beside the splits of a simulated data set: how it was made.
DESCRIPTION = "dataset.json"
FORMAT = 1
_AGAIN = "delete it and prepare the data again"


@dataclass(frozen=True)
class PairEntry:
    """A pair in a manifest: where its pixels lie in the split's file, and what it was made from."""

    scene: str
    name: str
    height: int
    width: int
    offset: int
    blur_sha256: str
    sharp_sha256: str


class Pairs(Protocol):
    """A sequence of pairs of ``[H, W, 3]`` uint8 pictures."""

    scenes: list[str]
    names: list[str]

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        ...

    def read(
        self, index: int, box: tuple[slice, slice] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(blurred, sharp)``: the whole pictures, or the rows and columns of ``box``."""
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

    def read(
        self, index: int, box: tuple[slice, slice] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        blurred, sharp = read_rgb(self.pairs[index].blur), read_rgb(self.pairs[index].sharp)
        if blurred.shape != sharp.shape:
            raise DataError(
                f"{self.pairs[index].blur} and its sharp picture differ in size: "
                f"{blurred.shape[:2]} and {sharp.shape[:2]}; replace one, or remove the pair"
            )
        return (blurred, sharp) if box is None else (blurred[box], sharp[box])


class PreparedPairs:
    """Pairs read from the memory map of one split."""

    def __init__(self, folder: Path, split: str, entries: Sequence[PairEntry]) -> None:
        self.file = folder / f"{split}.npy"
        self.entries = list(entries)
        self.scenes = [entry.scene for entry in self.entries]
        self.names = [entry.name for entry in self.entries]
        self._map: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict:
        # A memory map would travel to a worker as a copy of the whole file.
        return {**self.__dict__, "_map": None}

    def _open(self) -> np.ndarray:
        last = self.entries[-1]
        expected = last.offset + 2 * last.height * last.width * 3
        try:
            opened = np.load(self.file, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.file} cannot be read ({error}): prepare the data again"
            ) from None
        if opened.shape != (expected,) or opened.dtype != np.uint8:
            raise DataError(
                f"{self.file} is {opened.dtype} {opened.shape}, its manifest says uint8 "
                f"({expected},): delete its folder and prepare the data again"
            )
        return opened

    def size(self, index: int) -> tuple[int, int]:
        return self.entries[index].height, self.entries[index].width

    def read(
        self, index: int, box: tuple[slice, slice] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._map is None:
            self._map = self._open()
        entry = self.entries[index]
        pixels = entry.height * entry.width * 3
        pair = self._map[entry.offset : entry.offset + 2 * pixels]
        pictures = pair.reshape(2, entry.height, entry.width, 3)
        if box is not None:
            pictures = pictures[:, box[0], box[1]]
        return np.array(pictures[0]), np.array(pictures[1])


def open_pairs(data: Path, split: str, subset: Averaging = "blur") -> Pairs:
    """The pairs of a split of a data set, prepared or not.

    Args:
        data: a prepared folder, a data set in the layout of GOPRO_Large, or one split of it.
        split: ``train``, ``val`` or ``test``.
        subset: which blurred folder; a prepared folder must have been made from this one.

    Raises:
        DataError: there is no such data or split, or it was prepared from the other subset.
    """
    if (data / MANIFEST).is_file():
        manifest = read_manifest(data)
        if split not in manifest["splits"]:
            raise DataError(f"{data} has no split '{split}', only {', '.join(manifest['splits'])}")
        if manifest["subset"] != subset:
            raise DataError(
                f"{data} was prepared from '{manifest['subset']}', but '{subset}' is asked for: "
                f"ask for {manifest['subset']}, or prepare '{subset}' into another folder"
            )
        entries = [PairEntry(**entry) for entry in manifest["splits"][split]]
        return PreparedPairs(data, split, entries)
    folder = data / split
    return FolderPairs(find_pairs(folder if folder.is_dir() else data, subset))


def available_splits(data: Path) -> list[str]:
    """The splits of a data set, prepared or not."""
    if (data / MANIFEST).is_file():
        return list(read_manifest(data)["splits"])
    return existing_splits(data)


def data_kind(data: Path) -> str:
    """``simulated`` or ``recorded``. A simulated data set says so; anything else is recorded."""
    if (data / MANIFEST).is_file():
        return str(read_manifest(data)["kind"])
    try:
        described = json.loads((data / DESCRIPTION).read_text(encoding="utf-8"))
        return str(described["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return "recorded"


def read_manifest(folder: Path) -> dict:
    """The manifest of a prepared folder.

    Raises:
        DataError: it is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): {_AGAIN}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not a manifest of format {FORMAT}: {_AGAIN}")
    missing = {"subset", "kind", "splits", "digest"} - manifest.keys()
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}: {_AGAIN}")
    return manifest
