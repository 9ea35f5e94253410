"""The deblurring U-Net."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.models.borders import at_least
from deblur.models.normalisation import GroupNorm

GROUPS = 8
STRIDE = 16  # of four poolings, each of which needs two pixels


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, GroupNorm(8), ReLU. ``[B, in, H, W]`` to ``[B, out, H, W]``."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.norm1 = GroupNorm(GROUPS, out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, padding=1)
        self.norm2 = GroupNorm(GROUPS, out_ch)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class UpBlock(nn.Module):
    """Bilinear upsampling to the skip's size, 3x3 convolution, concatenation, ``ConvBlock``."""

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.block = ConvBlock(2 * out_ch, out_ch)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Always to the skip's size, never "if it differs": a condition on shapes is folded away
        # when the graph is exported. For even sizes this is the plain doubling.
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.block(torch.cat([self.conv(x), skip], dim=1))


class DeblurUNet(nn.Module):
    """U-Net for deblurring: four levels, GroupNorm, bilinear upsampling, no final activation.

    Takes and returns ``[B, 3, H, W]`` in [-1, 1], any H and W; below 16 the border is repeated up
    to 16. 8,636,451 parameters at ``base_ch=32``. Ronneberger et al., "U-Net", MICCAI 2015, with
    the changes named above.

    Args:
        in_ch, out_ch: channels of the picture.
        base_ch: channels of the first level, a multiple of 8; the bottleneck has 16 times as many.
        residual: return ``x + f(x)`` with the last convolution zero at the start, so that an
            untrained network is the identity (Nah et al., CVPR 2017, and every later network above
            31 dB on GoPro). ``False`` returns ``f(x)``.
    """

    def __init__(
        self, in_ch: int = 3, out_ch: int = 3, base_ch: int = 32, residual: bool = True
    ) -> None:
        super().__init__()
        if base_ch < GROUPS or base_ch % GROUPS:
            raise ValueError(f"base_ch must be a positive multiple of {GROUPS}, got {base_ch}")
        if residual and in_ch != out_ch:
            raise ValueError(f"a residual network needs in_ch == out_ch, got {in_ch} and {out_ch}")
        self.residual = residual
        widths = [base_ch * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(
            ConvBlock(before, after)
            for before, after in zip([in_ch, *widths[:3]], widths[:4], strict=True)
        )
        self.bottleneck = ConvBlock(widths[3], widths[4])
        self.decoder = nn.ModuleList(UpBlock(2 * width, width) for width in reversed(widths[:4]))
        self.final = nn.Conv2d(base_ch, out_ch, kernel_size=1)
        if residual:
            nn.init.zeros_(self.final.weight)
            if self.final.bias is not None:
                nn.init.zeros_(self.final.bias)

    def forward(self, x: Tensor) -> Tensor:
        blurred = x
        height, width = x.shape[-2:]
        x = at_least(x, STRIDE)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        x = self.final(x)[..., :height, :width]
        return blurred + x if self.residual else x
