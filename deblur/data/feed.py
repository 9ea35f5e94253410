"""Feeding a training: batches of raw crops on the way to the device, and what the device does.

Loader processes copy bytes and nothing else: a batch is uint8, a quarter of its size in float32.
Turning, conversion and normalisation happen on the device. The crops are those of
``DeblurDataset``, to the bit.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from deblur.data.crops import Crop, EpochBatches
from deblur.data.dataset import DeblurDataset

Batch = TypeVar("Batch")


class CropBatch(NamedTuple):
    """Crops as they lie in the pictures, and how to turn them.

    Attributes:
        pixels: ``[2, N, S, S, 3]`` uint8, the blurred crops and the sharp ones.
        turns: ``[N, 3]`` bool, the fields of each crop's ``Turn``.
    """

    pixels: Tensor
    turns: Tensor


class CropFeed(Dataset[CropBatch]):
    """Whole batches of a ``DeblurDataset``, by lists of crops."""

    def __init__(self, dataset: DeblurDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, crop: Crop) -> CropBatch:
        """A batch of one."""
        return self.__getitems__([crop])

    def __getitems__(self, crops: Sequence[Crop]) -> CropBatch:
        """The crops in their order, on the CPU."""
        size = self.dataset.patch_size
        pixels = _empty((2, len(crops), size, size, 3))
        turns = torch.empty((len(crops), 3), dtype=torch.bool)
        into, into_turns = pixels.numpy(), turns.numpy()
        for slot, crop in enumerate(crops):
            picture, box, turn = self.dataset.place(crop)
            into[0, slot], into[1, slot] = self.dataset.pairs.read(picture, box)
            into_turns[slot] = turn
        return CropBatch(pixels, turns)


def feed(
    crops: Dataset[Batch], batches: EpochBatches, workers: int, device: torch.device
) -> Iterator[Batch]:
    """The batches in their order, read by ``workers`` processes ahead of time (0: by this one).

    Args:
        crops: makes a whole batch of a list of ``Crop`` in its ``__getitems__``.
        batches: which crops, in which order.
        workers: loader processes.
        device: where the batches will go.
    """
    return iter(
        DataLoader(
            crops,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            # Forking a process that has threads (torch, Prefect) can hang; Windows cannot fork.
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=4 if workers else None,
        )
    )


def to_device(batch: CropBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """``(blurred, sharp)``: ``[N, 3, S, S]`` float32 in [-1, 1] on the device, turned; channels
    last in memory, as the convolutions want them.
    """
    pixels = batch.pixels.to(device, non_blocking=True)
    planes = torch.empty(pixels.shape, dtype=torch.float32, device=device)
    # One crop at a time: four times as fast on a CPU as masks over the whole batch.
    for slot, (transpose, *flips) in enumerate(batch.turns.tolist()):
        crop = pixels[:, slot].transpose(1, 2) if transpose else pixels[:, slot]
        reversed_axes = [axis for axis, flip in zip((1, 2), flips, strict=True) if flip]
        planes[:, slot] = crop.flip(reversed_axes) if reversed_axes else crop
    blurred, sharp = planes.div_(127.5).sub_(1.0).permute(0, 1, 4, 2, 3).unbind(0)
    return blurred, sharp


def _empty(shape: tuple[int, ...]) -> Tensor:
    """An uninitialised uint8 tensor; in a loader process, one that the parent can read."""
    tensor = torch.empty(shape, dtype=torch.uint8)
    return tensor.share_memory_() if get_worker_info() is not None and tensor.numel() else tensor


def _as_it_is(batch: Any) -> Any:
    """What ``__getitems__`` returns is the batch already."""
    return batch
