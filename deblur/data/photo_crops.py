"""Sharp crops with a random camera path each, for shake that is made on the device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from deblur.data.crops import Crop, random_place, turned
from deblur.data.pairs import Pairs
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import steps_for, views
from deblur.data.synthesis.on_device import PhotoBatch
from deblur.data.synthesis.shake import ShakeConfig, random_shake
from deblur.errors import DataError

#: Pixels beyond the outermost place looked at that bicubic interpolation takes in.
_SUPPORT = 2


class PhotoCrops(Dataset[PhotoBatch]):
    """Batches of sharp crops, each with its shake: pure functions of (seed, epoch, number).

    A crop is shaken as if it were a whole picture: it is rolled about its own centre, and its focal
    length is that of ``deblur.data.synthesis.blur.FOCAL``.

    Args:
        pairs: whose sharp pictures are taken. Of prepared pairs only the crop is read.
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
        pairs: Pairs,
        config: ShakeConfig,
        patch_size: int = 256,
        crops_per_image: int = 1,
    ) -> None:
        self.pairs = pairs
        self.config = config
        self.patch_size = patch_size
        self.crops_per_image = crops_per_image
        self.margin = config.reach(patch_size, patch_size) + _SUPPORT
        self.side = patch_size + 2 * self.margin
        # All paths of a batch have as many sub-frames as the longest may need at the corners.
        self.steps = steps_for(config.reach(patch_size, patch_size))
        self.sizes = [pairs.size(index) for index in range(len(pairs))]
        if not self.sizes:
            raise DataError("there are no sharp pictures to take crops from: expected at least one")
        for index, (height, width) in enumerate(self.sizes):
            if min(height, width) < self.side:
                raise DataError(
                    f"{pairs.scenes[index]}/{pairs.names[index]} is {width}x{height}, smaller "
                    f"than a crop of {patch_size} with {self.margin} px for the blur on each side "
                    f"({self.side}x{self.side}): remove it, or ask for smaller crops (patch_size) "
                    "or shorter blur (longest)"
                )

    def __len__(self) -> int:
        return len(self.pairs) * self.crops_per_image

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
        picture = crop.number % len(self.pairs)
        height, width = self.sizes[picture]
        box, turn = random_place(self.config.seed, crop, height, width, self.side)
        return turned(self.pairs.read(picture, box)[1], turn)
