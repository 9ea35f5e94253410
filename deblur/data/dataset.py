"""Training crops: place and turns of each are a pure function of (seed, epoch, index)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from deblur.data.blur import Averaging
from deblur.data.pairs import open_pairs
from deblur.data.randomness import Stream, generator
from deblur.errors import DataError
from deblur.images import to_float

Transform = Callable[[Image.Image], Any]


class Crop(NamedTuple):
    """A crop of an epoch. Carrying the epoch in the index keeps workers free of state."""

    epoch: int
    number: int


class DeblurDataset(Dataset[tuple[Any, Any]]):
    """Pairs of crops ``[3, patch_size, patch_size]`` in [-1, 1].

    In training, each picture gives ``crops_per_image`` crops an epoch: one random place, then a
    horizontal flip, a vertical flip (each with probability 1/2) and a rotation by 0, 90, 180 or 270
    degrees, the same for both pictures. Otherwise the crop is the middle of the picture, unturned.

    Args:
        data_dir: a data set, prepared or in the layout of GOPRO_Large, or one split of it.
        transform: takes a PIL crop and replaces the normalisation to [-1, 1].
        patch_size: side of the crops in pixels.
        is_training: random crops of ``train``; otherwise middle crops of ``test``.
        subset: which blurred folder to read.
        seed: the run's seed.
        crops_per_image: crops that each picture gives in an epoch.

    Indexing with an integer takes the crop from the epoch set by ``set_epoch``; indexing with a
    ``Crop`` names the epoch itself.

    Raises:
        DataError: no data, or a picture is smaller than the crop.
    """

    def __init__(
        self,
        data_dir: Path | str,
        transform: Transform | None = None,
        patch_size: int = 256,
        is_training: bool = True,
        *,
        subset: Averaging = "blur",
        seed: int = 0,
        crops_per_image: int = 1,
    ) -> None:
        self.pairs = open_pairs(Path(data_dir), "train" if is_training else "test", subset)
        self.transform = transform
        self.patch_size = patch_size
        self.is_training = is_training
        self.seed = seed
        self.crops_per_image = crops_per_image
        self.epoch = 0
        for index in range(len(self.pairs)):
            height, width = self.pairs.size(index)
            if min(height, width) < patch_size:
                raise DataError(
                    f"{self.pairs.scenes[index]}/{self.pairs.names[index]} is {width}x{height}, "
                    f"smaller than the crop of {patch_size}x{patch_size}: remove it, or train on "
                    "smaller crops (patch_size)"
                )

    def __len__(self) -> int:
        return len(self.pairs) * self.crops_per_image

    def set_epoch(self, epoch: int) -> None:
        """Choose the crops that plain integer indices stand for."""
        self.epoch = epoch

    def __getitem__(self, index: int | Crop) -> tuple[Any, Any]:
        crop = index if isinstance(index, Crop) else Crop(self.epoch, index)
        if not 0 <= crop.number < len(self):
            raise IndexError(f"crop {crop.number} of {len(self)}")
        blurred, sharp = self.crop(crop)
        if self.transform is not None:
            return self.transform(Image.fromarray(blurred)), self.transform(Image.fromarray(sharp))
        return _normalised(blurred), _normalised(sharp)

    def crop(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """The crop of both pictures, turned alike: ``[patch_size, patch_size, 3]`` uint8."""
        picture = crop.number % len(self.pairs)
        height, width = self.pairs.size(picture)
        size = self.patch_size
        if not self.is_training:
            top, left = (height - size) // 2, (width - size) // 2
            return self.pairs.read(picture, (slice(top, top + size), slice(left, left + size)))
        rng = generator(self.seed, Stream.CROP, crop.epoch, crop.number)
        top = int(rng.integers(height - size + 1))
        left = int(rng.integers(width - size + 1))
        h_flip, v_flip = rng.random(2) < 0.5
        quarter_turns = int(rng.integers(4))
        pair = self.pairs.read(picture, (slice(top, top + size), slice(left, left + size)))
        blurred, sharp = (_turned(p, h_flip, v_flip, quarter_turns) for p in pair)
        return blurred, sharp


class EpochBatches(Sampler[list[Crop]]):
    """Batches of crops, epoch after epoch: each crop once an epoch, in an order that is a pure
    function of (seed, epoch). One stream for the whole run, so that loader processes start once
    and read on across the epochs' edges. The last batch of an epoch may be smaller.
    """

    def __init__(self, length: int, batch_size: int, seed: int, epochs: range) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epochs = epochs

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-self.length // self.batch_size)

    def __len__(self) -> int:
        return self.per_epoch * len(self.epochs)

    def __iter__(self) -> Iterator[list[Crop]]:
        for epoch in self.epochs:
            order = generator(self.seed, Stream.ORDER, epoch).permutation(self.length)
            for first in range(0, self.length, self.batch_size):
                batch = order[first : first + self.batch_size]
                yield [Crop(epoch, int(index)) for index in batch]


def _turned(pixels: np.ndarray, h_flip: bool, v_flip: bool, quarter_turns: int) -> np.ndarray:
    if h_flip:
        pixels = pixels[:, ::-1]
    if v_flip:
        pixels = pixels[::-1]
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _normalised(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(to_float(pixels)[0])
