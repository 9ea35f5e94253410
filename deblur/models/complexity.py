"""How large a network is and how much it computes."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """Number of values that training changes or could change, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, size: int = 256) -> int:
    """Multiply-accumulates for one picture ``[1, 3, size, size]``, the field's measure at 256.

    Those of convolutions and matrix products: half of the operations of ``FlopCounterMode``.
    Biases, normalisation, gates and upsampling are not counted, so published figures, which count
    some of them, are up to a hundredth higher: NAFNet's biases alone are 0.8 % of it.

    Runs on shapes alone (the meta device): it computes nothing, and the model stays as it is,
    whatever its device, type and mode. The first call takes seconds, in which torch loads much of
    itself.

    Args:
        model: takes ``[B, 3, H, W]``.
        size: height and width in pixels.
    """
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    shapes = {
        name: torch.empty_like(value, device="meta")
        for values in (model.named_parameters(), model.named_buffers())
        for name, value in values
    }
    picture = torch.empty(1, 3, size, size, dtype=dtype, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(model, shapes, (picture,))
    return counter.get_total_flops() // 2
