"""Pictures that are too small for a network, or not of a multiple of its stride."""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least(x: Tensor, size: int) -> Tensor:
    """``[B, C, H, W]`` with its last row and column repeated until H and W are ``size``.

    Larger ones stay as they are, to the bit. Repeated, not mirrored: a single pixel has nothing to
    mirror. The margin is computed from the shape without a condition, also when it is zero:
    exported, it is arithmetic on the dimensions and one native Pad, right for any size.
    """
    height, width = x.shape[-2:]
    margin: list = [0, torch.sym_max(size - width, 0), 0, torch.sym_max(size - height, 0)]
    return F.pad(x, margin, mode="replicate")


def up_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """``[B, C, H, W]`` continued at the right and at the bottom to multiples of ``multiple``.

    Mirrored, as the tiler does it, not zeros: zero is mid-grey here, a false edge that would enter
    the attention's means as well. Mirroring needs a size larger than the margin, which is at most
    ``multiple - 1``, so smaller ones are brought to ``multiple`` first, see ``at_least``.
    """
    x = at_least(x, multiple)
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")
