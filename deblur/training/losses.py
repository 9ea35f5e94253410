"""Training losses."""

import torch
from torch import Tensor, nn


class CharbonnierLoss(nn.Module):
    """``mean(sqrt((pred - target)^2 + eps^2))``, a smooth L1.

    Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
    imaging", ICIP 1994. Computed in float32 whatever the precision of the network.

    Args:
        eps: distance in the pictures' unit below which the loss is quadratic.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return torch.sqrt((pred.float() - target.float()) ** 2 + self.eps**2).mean()
