"""Finding the pairs of a data set in the layout of GOPRO_Large.

    ROOT/{train,val,test}/SCENE/{blur,blur_gamma,sharp}/000001.png

``val`` is optional. A folder that holds the scenes directly is taken too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deblur.data.blur import Averaging
from deblur.errors import DataError
from deblur.images import SUFFIXES

SPLITS = ("train", "val", "test")
SHARP = "sharp"
_EXPECTED = "expected ROOT/{train,test}/SCENE/{blur,sharp}/*.png, as in GOPRO_Large"


@dataclass(frozen=True)
class Pair:
    """One blurry picture and its sharp original."""

    scene: str
    name: str
    blur: Path
    sharp: Path


def existing_splits(root: Path) -> list[str]:
    """The splits that ``root`` has, in the order train, val, test.

    Raises:
        DataError: there is no such folder, or it has no ``train``.
    """
    if not root.is_dir():
        raise DataError(
            f"there is no data folder {root}: {_EXPECTED}; make a sample with  "
            f"deblur data sample {root}"
        )
    found = [split for split in SPLITS if (root / split).is_dir()]
    if "train" not in found:
        inside = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder 'train' (it holds {inside}): {_EXPECTED}")
    return found


def find_splits(root: Path, subset: Averaging = "blur") -> dict[str, list[Pair]]:
    """All pairs of a data set, by split. Raises as ``existing_splits`` and ``find_pairs`` do."""
    return {split: find_pairs(root / split, subset) for split in existing_splits(root)}


def find_pairs(folder: Path, subset: Averaging = "blur") -> list[Pair]:
    """All pairs of one split, sorted by scene and name.

    Args:
        folder: the folder that holds the scenes, for example ``GOPRO_Large/train``.
        subset: which of the two blurred folders to take.

    Raises:
        DataError: the folder is missing or empty, or a picture lacks its counterpart.
    """
    if not folder.is_dir():
        raise DataError(f"there is no data folder {folder}: {_EXPECTED}")
    scenes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    pairs = [pair for scene in scenes for pair in _pairs_of(scene, subset)]
    if not pairs:
        raise DataError(f"{folder} holds no pairs of '{subset}' and 'sharp' pictures: {_EXPECTED}")
    return pairs


def _pairs_of(scene: Path, subset: Averaging) -> Iterator[Pair]:
    blurred, sharp = _pictures(scene / subset), _pictures(scene / SHARP)
    for name in sorted(blurred.keys() ^ sharp.keys()):
        have, lack = (subset, SHARP) if name in blurred else (SHARP, subset)
        raise DataError(
            f"{scene / have / name} has no counterpart {scene / lack / name}: every picture in "
            f"'{subset}' needs one of the same name in '{SHARP}'; add it, or remove this one"
        )
    for name in sorted(blurred):
        yield Pair(scene.name, name, blurred[name], sharp[name])


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {p.name: p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES}
