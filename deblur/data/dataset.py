"""The data set of the field's habit: one crop of a pair at a time, normalised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from deblur.data.crops import Crop, Turn, middle_place, random_place, turned
from deblur.data.layout import Averaging
from deblur.data.pairs import Box, Pairs, open_pairs
from deblur.errors import DataError
from deblur.images import to_float

Transform = Callable[[Image.Image], Any]


class DeblurDataset(Dataset[tuple[Any, Any]]):
    """Pairs of crops ``[3, patch_size, patch_size]`` in [-1, 1].

    In training, each picture gives ``crops_per_image`` crops an epoch, at random places and turned
    at random, the same for both pictures. Otherwise the crop is the middle of the picture.

    Args:
        data_dir: a data set, prepared or not (see ``deblur.data.listing``), or its open pairs.
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
        data_dir: Path | str | Pairs,
        transform: Transform | None = None,
        patch_size: int = 256,
        is_training: bool = True,
        *,
        subset: Averaging = "blur",
        seed: int = 0,
        crops_per_image: int = 1,
    ) -> None:
        self.pairs = (
            open_pairs(data_dir, "train" if is_training else "test", subset)
            if isinstance(data_dir, Path | str)
            else data_dir
        )
        self.transform = transform
        self.patch_size = patch_size
        self.is_training = is_training
        self.seed = seed
        self.crops_per_image = crops_per_image
        self.epoch = 0
        self.sizes = [self.pairs.size(index) for index in range(len(self.pairs))]
        for index, (height, width) in enumerate(self.sizes):
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
        return torch.from_numpy(to_float(blurred)[0]), torch.from_numpy(to_float(sharp)[0])

    def place(self, crop: Crop) -> tuple[int, Box, Turn]:
        """The picture that a crop is taken from, its rows and columns, and its turn."""
        picture = crop.number % len(self.pairs)
        height, width = self.sizes[picture]
        if self.is_training:
            return picture, *random_place(self.seed, crop, height, width, self.patch_size)
        return picture, *middle_place(height, width, self.patch_size)

    def crop(self, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """The crop of both pictures, turned alike: ``[patch_size, patch_size, 3]`` uint8."""
        picture, box, turn = self.place(crop)
        blurred, sharp = self.pairs.read(picture, box)
        return (
            np.ascontiguousarray(turned(blurred, turn)),
            np.ascontiguousarray(turned(sharp, turn)),
        )
