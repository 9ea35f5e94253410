"""What a training says when it cannot go on: batches without a finite loss, memory that is full."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deblur.atomic import whole_file
from deblur.data.crops import Crop
from deblur.data.feed import CropFeed
from deblur.data.photo_crops import PhotoCrops
from deblur.errors import DeblurError
from deblur.training.plan import Phase

BAD_BATCH = "bad_batch"
#: Crops of a bad batch that the picture shows.
_SHOWN = 16


class DivergedError(DeblurError):
    """The loss is not finite any more, again and again."""


def save_bad_batch(
    out: Path, source: CropFeed | PhotoCrops, crops: Sequence[Crop], step: int, loss: float
) -> Path:
    """Write down which crops a batch was made of, and a picture of them, for a look.

    Args:
        out: folder of the run.
        source: what the training reads from.
        crops: the batch.
        step: its step, counted from 1, and ``loss``, what it came to.

    Returns:
        The JSON file; ``bad_batch.png`` lies beside it.
    """
    pairs = source.pairs if isinstance(source, PhotoCrops) else source.dataset.pairs
    rows: list[dict[str, Any]] = []
    for crop in crops:
        picture = crop.number % len(pairs)
        row = {"epoch": crop.epoch, "number": crop.number}
        rows.append(row | {"picture": f"{pairs.scenes[picture]}/{pairs.names[picture]}"})
        if isinstance(source, CropFeed):
            _, (ys, xs), turn = source.dataset.place(crop)
            rows[-1] |= {"top": ys.start, "left": xs.start, "turn": turn._asdict()}
    report = out / f"{BAD_BATCH}.json"
    with whole_file(report) as partial:
        partial.write_text(json.dumps({"step": step, "loss": str(loss), "crops": rows}, indent=1))
    shown = list(crops[:_SHOWN])
    if isinstance(source, CropFeed):
        blurred, sharp = source.__getitems__(shown).pixels.numpy()
        tiles = np.stack((np.concatenate(blurred, axis=1), np.concatenate(sharp, axis=1)))
    else:
        tiles = np.concatenate(source.__getitems__(shown).sharp.numpy(), axis=1)[None]
    with whole_file(out / f"{BAD_BATCH}.png") as partial:
        Image.fromarray(np.concatenate(tiles, axis=0)).save(partial, format="PNG")
    return report


def diverged(steps: int, report: Path) -> DivergedError:
    """The error for ``steps`` steps in a row that came to nothing."""
    return DivergedError(
        f"loss or gradient were not finite in {steps} steps in a row, the weights are those of "
        f"before. The last of these batches is in {report} and the .png beside it: if the crops "
        "are as they should be, lower learning_rate, set clip_norm=1 or precision=fp32, and go on "
        "with --adopt, or train in a new folder"
    )


@contextmanager
def memory_advice(phase: Phase, world_size: int) -> Iterator[None]:
    """Turn running out of memory into the setting to try next.

    Raises:
        DeblurError: the memory of the device does not hold a batch.
    """
    try:
        yield
    except RuntimeError as error:
        # A CPU allocator raises a plain RuntimeError.
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        batch = phase.batch_size // 2 // world_size * world_size
        size = f"{phase.batch_size} crops of {phase.patch_size}x{phase.patch_size}"
        if batch:
            advice = f"try --set batch_size={batch}"
        else:
            advice = f"try --set patch_size={max(32, phase.patch_size // 32 * 16)}"
        if phase.patch_size > 64:
            advice += ", or precision=bf16 if it is not set"
        raise DeblurError(
            f"out of memory with a batch of {size} on {world_size} "
            f"process{'es' if world_size > 1 else ''} ({str(error).splitlines()[0]}): {advice}"
        ) from error
