"""Training losses. All compute in float32 whatever the precision of the network."""

import torch
from torch import Tensor, nn


class CharbonnierLoss(nn.Module):
    """``mean(sqrt((pred - target)^2 + eps^2))``, a smooth L1.

    Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
    imaging", ICIP 1994.

    Args:
        eps: distance in the pictures' unit below which the loss is quadratic.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return torch.sqrt((pred.float() - target.float()) ** 2 + self.eps**2).mean()


class SpectrumLoss(nn.Module):
    """Mean absolute difference of the real and imaginary parts of both spectra.

    Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (MIMO-UNet), ICCV
    2021, section 3.4; its weight there is 0.1 beside an L1 loss.
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        # One transform: that of the difference is the difference of the transforms.
        spectrum = torch.fft.rfft2(pred.float() - target.float())
        return torch.view_as_real(spectrum).abs().mean()


class TrainingLoss(nn.Module):
    """Charbonnier loss plus ``fft_weight`` times the loss between spectra."""

    def __init__(self, eps: float, fft_weight: float) -> None:
        super().__init__()
        self.pixels = CharbonnierLoss(eps)
        self.spectrum = SpectrumLoss()
        self.fft_weight = fft_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        loss = self.pixels(pred, target)
        return loss + self.fft_weight * self.spectrum(pred, target) if self.fft_weight else loss
