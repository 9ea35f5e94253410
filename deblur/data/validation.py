"""Checks that a data set can be trained on, made before anything is spent on it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur.data.blur import Averaging
from deblur.data.layout import Pair, find_splits
from deblur.errors import DataError, PictureError
from deblur.images import read_rgb
from deblur.metrics import psnr
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class Inspection:
    """What the pairs of a data set look like.

    Attributes:
        pairs: number of pairs by split.
        scenes: number of scenes by split.
        blurred_psnr: mean PSNR in dB of the blurred pictures against the sharp ones, by split.
        faults: one sentence for each pair that cannot be used; empty if all is well.
    """

    pairs: dict[str, int]
    scenes: dict[str, int]
    blurred_psnr: dict[str, float]
    faults: list[str]


def inspect(
    root: Path, subset: Averaging = "blur", crop: int = 256, progress: Progress = SILENT
) -> Inspection:
    """Decode every pair and check it.

    Args:
        root: the data set.
        subset: which of the two blurred folders to look at.
        crop: side of the training crops; every picture must be at least as large.

    Raises:
        DataError: the folder is missing or empty, or a picture lacks its counterpart.
    """
    splits = find_splits(root, subset)
    faults: list[str] = []
    means: dict[str, float] = {}
    with ThreadPoolExecutor() as pool:
        for split, pairs in splits.items():
            values: list[float] = []
            with progress.task(f"validate {split}", len(pairs), "pairs") as advance:
                for result in pool.map(lambda pair: _inspect_pair(pair, crop), pairs):
                    advance(1)
                    if isinstance(result, str):
                        faults.append(result)
                    else:
                        values.append(result)
            means[split] = float(np.mean(values)) if values else float("nan")
    return Inspection(
        pairs={split: len(pairs) for split, pairs in splits.items()},
        scenes={split: len({p.scene for p in pairs}) for split, pairs in splits.items()},
        blurred_psnr=means,
        faults=faults,
    )


def require_usable(root: Path, inspection: Inspection) -> None:
    """Raise a ``DataError`` that lists the faults, if there are any."""
    if inspection.faults:
        shown = "\n  ".join(inspection.faults[:10])
        more = len(inspection.faults) - 10
        raise DataError(
            f"{len(inspection.faults)} of {sum(inspection.pairs.values())} pairs in {root} cannot "
            f"be used:\n  {shown}" + (f"\n  and {more} more" if more > 0 else "")
        )


def _inspect_pair(pair: Pair, crop: int) -> str | float:
    """The blurred picture's PSNR, or a sentence on what is wrong with the pair."""
    try:
        blurred, sharp = read_rgb(pair.blur), read_rgb(pair.sharp)
    except PictureError as error:
        return f"{error}; replace the file, or remove the pair"
    (height, width), (other_height, other_width) = blurred.shape[:2], sharp.shape[:2]
    if (height, width) != (other_height, other_width):
        return (
            f"{pair.blur} is {width}x{height} but its sharp picture is "
            f"{other_width}x{other_height}: both must have the same size"
        )
    if min(height, width) < crop:
        return (
            f"{pair.blur} is {width}x{height}, smaller than the training crop of {crop}x{crop}: "
            "remove the pair, or train on smaller crops (patch_size)"
        )
    value = psnr(blurred, sharp)
    if np.isinf(value):
        return f"{pair.blur} and its sharp picture are identical: nothing to learn from; remove it"
    return value
