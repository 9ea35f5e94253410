"""Running a torch network on pictures the way the server does."""

import numpy as np
import torch
from torch import Tensor, nn

from deblur.device import Numerics
from deblur.evaluation import Predict
from deblur.tiling import apply_tiled


def tiled_predictor(
    model: nn.Module, numerics: Numerics, tile: int, overlap: int, batch: int = 4
) -> Predict:
    """``model`` as a function of whole pictures, with the serving tiles.

    Args:
        model: a network in evaluation mode on ``numerics.device``.
        numerics: device and precision.
        tile, overlap: the serving geometry.
        batch: tiles a call.
    """

    def on_tiles(tiles: Tensor) -> Tensor:
        with numerics.autocast():
            return model(tiles.contiguous(memory_format=torch.channels_last)).float()

    @torch.inference_mode()
    def predict(planes: np.ndarray) -> np.ndarray:
        picture = torch.from_numpy(planes).to(numerics.device)
        return apply_tiled(picture, on_tiles, tile, overlap, batch).cpu().numpy()

    return predict
