"""Feeding a training: batches of raw crops on the way to the device, and what the device does.

The loader copies bytes and nothing else: a batch is uint8, a quarter of its size in float32.
Turning, conversion and normalisation happen on the device. The crops are those of
``DeblurDataset``, to the bit.
"""

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deblur.data.crops import Crop, EpochBatches
from deblur.data.dataset import DeblurDataset

Batch = TypeVar("Batch")
#: Batches that each worker reads ahead.
_AHEAD = 4


class CropBatch(NamedTuple):
    """Crops as they lie in the pictures, and how to turn them.

    Attributes:
        pixels: ``[2, N, S, S, 3]`` uint8, the blurred crops and the sharp ones.
        turns: ``[N, 3]`` bool, the fields of each crop's ``Turn``.
    """

    pixels: Tensor
    turns: Tensor

    def pinned(self) -> Self:
        """The same batch in memory that a GPU copies from while it computes."""
        return self._replace(pixels=self.pixels.pin_memory())


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
        pixels = torch.empty((2, len(crops), size, size, 3), dtype=torch.uint8)
        turns = torch.empty((len(crops), 3), dtype=torch.bool)
        into, into_turns = pixels.numpy(), turns.numpy()
        for slot, crop in enumerate(crops):
            picture, box, turn = self.dataset.place(crop)
            into[0, slot], into[1, slot] = self.dataset.pairs.read(picture, box)
            into_turns[slot] = turn
        return CropBatch(pixels, turns)


def feed(
    crops: CropFeed | Dataset[Batch], batches: EpochBatches, workers: int, device: torch.device
) -> Iterator[Any]:
    """The batches in their order, read ahead by ``workers`` (0: read when they are asked for).

    Copying and decoding happen outside the interpreter lock, so threads do them side by side, and
    no batch has to travel between processes: on two cores four times as fast from shards as with
    processes, and 1.4 times from pictures. What is computed in Python is left to processes.

    Args:
        crops: makes a whole batch of a list of ``Crop`` in its ``__getitems__``.
        batches: which crops, in which order.
        workers: threads, or processes for anything but a ``CropFeed``.
        device: where the batches will go.
    """
    if isinstance(crops, CropFeed):
        return _by_threads(crops, batches, workers, device)
    return iter(
        DataLoader(
            crops,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=as_it_is,
            pin_memory=device.type == "cuda",
            # Forking a process that has threads (torch, Prefect) can hang; Windows cannot fork.
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=_AHEAD if workers else None,
            worker_init_fn=_leave_ctrl_c,
            # It draws a seed for its workers; not from the generator that a checkpoint keeps.
            generator=torch.Generator(),
        )
    )


def _by_threads(
    crops: CropFeed, batches: EpochBatches, workers: int, device: torch.device
) -> Iterator[CropBatch]:
    def load(batch: list[Crop]) -> CropBatch:
        loaded = crops.__getitems__(batch)
        return loaded.pinned() if device.type == "cuda" else loaded

    if not workers:
        yield from map(load, batches)
        return
    pool = ThreadPoolExecutor(workers, "feed")
    try:
        ahead: deque[Future[CropBatch]] = deque()
        for batch in batches:
            ahead.append(pool.submit(load, batch))
            if len(ahead) > _AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


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


def _leave_ctrl_c(_: int) -> None:
    """The terminal sends Ctrl-C to loader processes, too; when to end is their parent's to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def as_it_is(batch: Any) -> Any:
    """The ``collate_fn`` of batches that are whole already."""
    return batch
