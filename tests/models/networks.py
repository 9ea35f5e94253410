"""Networks for tests."""

from typing import Any

import torch

from deblur.models import NAFNet


def small_nafnet(**options: Any) -> NAFNet:
    """Four blocks, eight channels, always the same weights, none at its neutral initial value."""
    blocks = {"encoder_blocks": (1, 0, 0, 1), "middle_blocks": 1, "decoder_blocks": (0, 0, 1, 0)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = NAFNet(**{"width": 8, **blocks, **options})
        for name, weight in model.named_parameters():
            if weight.dim() == 1 or name.endswith(("beta", "gamma")) or "ending" in name:
                weight.add_(torch.randn(weight.shape), alpha=0.2)
    return model.eval()
