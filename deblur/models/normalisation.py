"""Normalisation that computes in float32 whatever the precision of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He, ECCV 2018) in float32; the result has the input's type.

    Mean and variance of a quarter of a megapixel do not survive bfloat16's eight bits. It is also
    the faster way: on a CPU the backward pass in bfloat16 is four times as slow as in float32, half
    of a whole training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        normal = F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
        return normal.to(x.dtype)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel, in float32.

    ``[B, C, H, W]`` to the same, in the input's type: ``(x - mean) / sqrt(variance + eps) * weight
    + bias`` with mean and biased variance over the C values of one pixel. Ba et al., "Layer
    Normalization", 2016; over the channels alone as in Chen et al., "Simple Baselines for Image
    Restoration", ECCV 2022, section 3.

    Args:
        channels: C.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last both permutations are free. Exported, this is one LayerNormalization,
        # and onnxruntime hides the transpositions in the layout of the convolutions.
        rows = x.permute(0, 2, 3, 1).float()
        weight, bias = self.weight.float(), self.bias.float()
        normal = F.layer_norm(rows, weight.shape, weight, bias, self.eps)
        return normal.permute(0, 3, 1, 2).to(x.dtype)
