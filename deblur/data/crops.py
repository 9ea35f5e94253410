"""Where the crops of an epoch lie and how they turn: pure functions of (seed, epoch, index)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from deblur.data.pairs import Box
from deblur.data.randomness import Stream, generator


class Crop(NamedTuple):
    """A crop of an epoch. Carrying the epoch in the index keeps workers free of state."""

    epoch: int
    number: int


class Turn(NamedTuple):
    """One of the eight ways to lay a square down: rows and columns are exchanged first, then
    the rows (``v_flip``) and the columns (``h_flip``) are reversed.
    """

    transpose: bool
    v_flip: bool
    h_flip: bool


AS_IS = Turn(False, False, False)


def random_place(seed: int, crop: Crop, height: int, width: int, size: int) -> tuple[Box, Turn]:
    """The rows and columns of a training crop, and its turn: a horizontal and a vertical flip (each
    with probability 1/2), then a rotation by 0, 90, 180 or 270 degrees.
    """
    rng = generator(seed, Stream.CROP, crop.epoch, crop.number)
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    h_flip, v_flip = (bool(flip) for flip in rng.random(2) < 0.5)
    quarter_turns = int(rng.integers(4))
    if quarter_turns % 2:
        # A quarter turn counter-clockwise is a transposition and then a flip of the rows.
        h_flip, v_flip = v_flip, h_flip
    if quarter_turns in (1, 2):
        v_flip = not v_flip
    if quarter_turns in (2, 3):
        h_flip = not h_flip
    box = (slice(top, top + size), slice(left, left + size))
    return box, Turn(quarter_turns % 2 == 1, v_flip, h_flip)


def middle_place(height: int, width: int, size: int) -> tuple[Box, Turn]:
    """The middle of a picture, as it is."""
    top, left = (height - size) // 2, (width - size) // 2
    return (slice(top, top + size), slice(left, left + size)), AS_IS


def turned(pixels: np.ndarray, turn: Turn) -> np.ndarray:
    """``[S, S, C]`` turned; a view."""
    if turn.transpose:
        pixels = pixels.swapaxes(0, 1)
    if turn.v_flip:
        pixels = pixels[::-1]
    return pixels[:, ::-1] if turn.h_flip else pixels


class EpochBatches:
    """Batches of crops, epoch after epoch: each crop once an epoch, in an order that is a pure
    function of (seed, epoch). One stream for the whole run, so that loader processes start once
    and read on across the epochs' edges. The last batch of an epoch may be smaller.

    Args:
        length: crops in an epoch.
        batch_size: crops in a step, of all processes together.
        seed: the run's seed.
        epochs: which epochs to go through.
        rank, world_size: this process and how many share each batch. Together they see the batch
            that one process would; a process may find nothing for it in the last one of an epoch.
        start: batches of the first epoch that were gone through earlier.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        epochs: range,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epochs = epochs
        self.rank = rank
        self.world_size = world_size
        self.start = start

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-self.length // self.batch_size)

    def __len__(self) -> int:
        return max(0, self.per_epoch * len(self.epochs) - self.start)

    def __iter__(self) -> Iterator[list[Crop]]:
        for epoch in self.epochs:
            order = generator(self.seed, Stream.ORDER, epoch).permutation(self.length)
            begin = self.start * self.batch_size if epoch == self.epochs.start else 0
            for first in range(begin, self.length, self.batch_size):
                batch = order[first : first + self.batch_size][self.rank :: self.world_size]
                yield [Crop(epoch, int(index)) for index in batch]
