"""Networks behind one contract: ``[B, 3, H, W]`` in [-1, 1] to the same shape, any H and W.

Each network has a word in the configuration, and traits that whoever runs it must know.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from deblur.models.nafnet import NAFNet
from deblur.models.unet import DeblurUNet

__all__ = ["DeblurUNet", "NAFNet", "Traits", "WORDS", "build_network", "traits", "word_of"]

#: The configuration's words for the networks.
WORDS = ("unet", "nafnet")


@dataclass(frozen=True)
class Traits:
    """What a runner must know of an architecture, as the contract of exported files says it.

    Attributes:
        name: of the class.
        norm: the normalisation layers: ``group8``, GroupNorm of eight groups over the whole input;
            ``layer``, LayerNorm over the channels of each pixel.
        multiple: the total stride. Tiles start on multiples of it.
        tiling: ``tile-bound`` if each output pixel depends on statistics of the whole tile: then
            the tile's size is part of the model, and its figures hold for that size alone.
            ``free`` if it depends on a neighbourhood: then any tile with enough overlap will do.
    """

    name: str
    norm: Literal["group8", "layer"]
    multiple: int
    tiling: Literal["tile-bound", "free"]


def traits(architecture: str) -> Traits:
    """Traits of ``unet`` or ``nafnet``; ``ValueError`` for any other word."""
    match architecture:
        case "unet":
            # GroupNorm's mean and variance are those of the tile.
            return Traits("DeblurUNet", norm="group8", multiple=16, tiling="tile-bound")
        case "nafnet":
            # So are the means of the channel attention; LayerNorm alone would leave it free.
            return Traits("NAFNet", norm="layer", multiple=16, tiling="tile-bound")
    raise _unknown(architecture)


def word_of(name: str) -> str:
    """The word of the network whose class is ``name``; ``ValueError`` if there is none."""
    for word in WORDS:
        if traits(word).name == name:
            return word
    raise ValueError(f"there is no network '{name}'")


def build_network(architecture: str, base_ch: int, residual: bool) -> nn.Module:
    """A new network with random weights from torch's generator.

    Args:
        architecture: ``unet`` or ``nafnet``.
        base_ch: channels of the first level: the U-Net's ``base_ch``, NAFNet's ``width``.
        residual: return ``x + f(x)``; an untrained network is then the identity.

    Raises:
        ValueError: another architecture, or a width that it cannot have.
    """
    match architecture:
        case "unet":
            return DeblurUNet(base_ch=base_ch, residual=residual)
        case "nafnet":
            return NAFNet(width=base_ch, residual=residual)
    raise _unknown(architecture)


def _unknown(architecture: str) -> ValueError:
    return ValueError(f"there is no architecture '{architecture}': choose unet or nafnet")
