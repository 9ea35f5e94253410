"""NAFNet: a U-shaped network without activation functions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblur.models.borders import up_to_multiple
from deblur.models.normalisation import LayerNorm2d


def simple_gate(x: Tensor) -> Tensor:
    """First half of the channels times the second: ``[B, 2C, H, W]`` to ``[B, C, H, W]``.

    Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, section 4.
    """
    first, second = x.chunk(2, dim=1)
    return first * second


class ChannelAttention(nn.Module):
    """Simplified channel attention: each channel times a linear function of all channels' means.

    ``[B, C, H, W]`` to the same. Chen et al., section 4. The means are those of the whole input,
    so each output pixel depends on every input pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x.mean((2, 3), keepdim=True))


class NAFBlock(nn.Module):
    """The two halves of a block, each added to what came in. ``[B, C, H, W]`` to the same.

    Chen et al., section 4. The first half mixes pixels (3x3 depthwise, gate, channel attention),
    the second works on each pixel alone. Both double the channels, and the gate halves them again.
    They are scaled by ``beta`` and ``gamma``, zero at the start: a new block is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.expand1 = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = ChannelAttention(channels)
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.expand2 = nn.Conv2d(channels, 2 * channels, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        # Under autocast these float32 factors make the sum over the blocks float32, too: in
        # bfloat16 the small corrections of some thirty blocks would be rounded away.
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # The factor stands on the right, because onnxruntime fuses "convolution times constant"
        # into the convolution, but not "constant times convolution".
        mixed = simple_gate(self.depthwise(self.expand1(self.norm1(x))))
        x = x + self.project1(self.attention(mixed)) * self.beta
        gated = simple_gate(self.expand2(self.norm2(x)))
        return x + self.project2(gated) * self.gamma


class NAFNet(nn.Module):
    """NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022) for deblurring.

    Takes and returns ``[B, 3, H, W]`` in [-1, 1], any H and W; the result is not clamped.
    The defaults are the authors' network for GoPro at width 32: 17,111,907 parameters, 16.0 G
    multiply-accumulates at 256x256.

    Channel attention averages over the whole input, so the network belongs on tiles of about the
    size of its training crops; whole pictures cost quality (Chu et al., "Improving Image
    Restoration by Revisiting Global Information Aggregation", ECCV 2022).

    Args:
        in_ch, out_ch: channels of the picture.
        width: channels of the first level; each further level has twice as many.
        encoder_blocks: blocks of each level on the way down.
        middle_blocks: blocks of the lowest level.
        decoder_blocks: blocks of each level on the way up, the lowest first.
        residual: return ``x + f(x)``, as the paper does, with the last convolution zero at the
            start, so that an untrained network is the identity. ``False`` returns ``f(x)``.

    Attributes:
        multiple: the total stride; inputs of other sizes are padded to it inside.

    Raises:
        ValueError: the arguments make no network.
    """

    def __init__(
        self,
        in_ch: int = 3,
        out_ch: int = 3,
        width: int = 32,
        encoder_blocks: Sequence[int] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: Sequence[int] = (1, 1, 1, 1),
        residual: bool = True,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        if len(encoder_blocks) != len(decoder_blocks):
            raise ValueError(
                "encoder and decoder must have the same number of levels, got "
                f"{len(encoder_blocks)} and {len(decoder_blocks)}"
            )
        if residual and in_ch != out_ch:
            raise ValueError(f"a residual network needs in_ch == out_ch, got {in_ch} and {out_ch}")
        self.residual = residual
        self.multiple = 2 ** len(encoder_blocks)
        widths = [width * 2**level for level in range(len(encoder_blocks))]
        self.intro = nn.Conv2d(in_ch, width, 3, padding=1)
        self.encoder = nn.ModuleList(map(_level, widths, encoder_blocks))
        self.down = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        self.middle = _level(width * self.multiple, middle_blocks)
        # From 2C channels: 4C after the convolution, C after the shuffle.
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2))
            for c in reversed(widths)
        )
        self.decoder = nn.ModuleList(map(_level, reversed(widths), decoder_blocks))
        self.ending = nn.Conv2d(width, out_ch, 3, padding=1)
        if residual:
            nn.init.zeros_(self.ending.weight)
            if self.ending.bias is not None:
                nn.init.zeros_(self.ending.bias)

    def forward(self, x: Tensor) -> Tensor:
        blurred = x
        height, width = x.shape[-2:]
        x = self.intro(up_to_multiple(x, self.multiple))
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            x = level(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for level, up, skip in zip(self.decoder, self.up, reversed(skips), strict=True):
            x = level(up(x) + skip)
        x = self.ending(x)[..., :height, :width]
        return blurred + x if self.residual else x


def _level(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(blocks)))
