"""Sharp crops with a random camera path each, for shake that is made on the device."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from deblur.data.crops import Crop, random_place, turned
from deblur.data.pairs import Box, Pairs
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import steps_for, views
from deblur.data.synthesis.on_device import PhotoBatch
from deblur.data.synthesis.shake import ShakeConfig, random_shake
from deblur.errors import DataError

#: Pixels beyond the outermost place looked at that bicubic interpolation takes in.
_SUPPORT = 2


class SharpPictures(Protocol):
    """A sequence of sharp pictures."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call a picture in a message."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        ...

    def read(self, index: int, box: Box) -> np.ndarray:
        """Rows and columns of a picture: ``[h, w, 3]`` uint8."""
        ...


class SharpOfPairs:
    """The sharp pictures of pairs. Prepared pairs are fast: only the crop is read."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return f"{self.pairs.scenes[index]}/{self.pairs.names[index]}"

    def size(self, index: int) -> tuple[int, int]:
        return self.pairs.size(index)

    def read(self, index: int, box: Box) -> np.ndarray:
        return self.pairs.read(index, box)[1]


class PicturesInMemory:
    """Pictures ``[H, W, 3]`` uint8 that are in memory; each loader process gets a copy."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.pictures = list(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        return f"picture {index}"

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.pictures[index].shape[:2]
        return height, width

    def read(self, index: int, box: Box) -> np.ndarray:
        return self.pictures[index][box]


class PhotoCrops(Dataset[PhotoBatch]):
    """Batches of sharp crops, each with its shake: pure functions of (seed, epoch, number).

    A crop is shaken as if it were a whole picture: it is rolled about its own centre, and its focal
    length is that of ``deblur.data.synthesis.blur.FOCAL``.

    Args:
        pictures: the sharp pictures.
        config: the range of the shake. Its seed decides on places, turns and paths, too.
        patch_size: side of the crops in pixels, without the margin.
        crops_per_image: crops that each picture gives in an epoch.

    Attributes:
        margin: pixels around the crop that the camera may see.

    Raises:
        DataError: no pictures, or one is smaller than a crop with its margin.

    ``deblur.data.feed.feed`` loads its batches, in other processes if asked to.
    """

    def __init__(
        self,
        pictures: SharpPictures,
        config: ShakeConfig,
        patch_size: int = 256,
        crops_per_image: int = 1,
    ) -> None:
        self.pictures = pictures
        self.config = config
        self.patch_size = patch_size
        self.crops_per_image = crops_per_image
        self.margin = config.reach(patch_size, patch_size) + _SUPPORT
        self.side = patch_size + 2 * self.margin
        # All paths of a batch have as many sub-frames as the longest may need at the corners.
        self.steps = steps_for(config.reach(patch_size, patch_size))
        self.sizes = [pictures.size(index) for index in range(len(pictures))]
        if not self.sizes:
            raise DataError("there are no sharp pictures to take crops from: expected at least one")
        for index, (height, width) in enumerate(self.sizes):
            if min(height, width) < self.side:
                raise DataError(
                    f"{pictures.name(index)} is {width}x{height}, smaller than a crop of "
                    f"{patch_size} with {self.margin} px for the blur on each side "
                    f"({self.side}x{self.side}): remove it, or ask for smaller crops (patch_size) "
                    "or shorter blur (longest)"
                )

    def __len__(self) -> int:
        return len(self.pictures) * self.crops_per_image

    def __getitem__(self, crop: Crop) -> PhotoBatch:
        """A batch of one."""
        return self.__getitems__([crop])

    def __getitems__(self, crops: Sequence[Crop]) -> PhotoBatch:
        """The crops in their order, on the CPU."""
        count, side = len(crops), self.side
        sharp = np.empty((count, side, side, 3), np.uint8)
        seen = np.empty((count, self.steps, 3, 3), np.float32)
        highlights = np.empty(count, np.float32)
        for slot, crop in enumerate(crops):
            sharp[slot] = self._sharp(crop)
            rng = generator(self.config.seed, Stream.BLUR, crop.epoch, crop.number)
            path, highlights[slot] = random_shake(self.config, rng, self.steps)
            seen[slot] = views(path, side, side)
        places = np.array(crops, np.int64).reshape(count, 2)
        return PhotoBatch(
            torch.from_numpy(sharp),
            self.margin,
            torch.from_numpy(seen),
            torch.from_numpy(highlights),
            torch.from_numpy(places),
        )

    def _sharp(self, crop: Crop) -> np.ndarray:
        if not 0 <= crop.number < len(self):
            raise IndexError(f"crop {crop.number} of {len(self)}")
        picture = crop.number % len(self.pictures)
        height, width = self.sizes[picture]
        box, turn = random_place(self.config.seed, crop, height, width, self.side)
        return turned(self.pictures.read(picture, box), turn)
