"""The losses against their formulas."""

import pytest
import torch

from deblur.training.losses import CharbonnierLoss, SpectrumLoss, TrainingLoss


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 6, 8, generator=generator) * 2 - 1 for _ in range(2))  # type: ignore[return-value]


def test_charbonnier_is_the_mean_root_of_squares(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = pair
    expected = ((pred - target).square() + 1e-6).sqrt().mean()
    assert CharbonnierLoss(1e-3)(pred, target).item() == pytest.approx(expected.item())
    assert CharbonnierLoss(1e-3)(pred, pred).item() == pytest.approx(1e-3)


def test_the_spectrum_loss_is_that_of_both_transforms(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pred, target = pair
    a, b = torch.fft.rfft2(pred), torch.fft.rfft2(target)
    expected = torch.cat(((a.real - b.real).abs(), (a.imag - b.imag).abs())).mean()
    assert SpectrumLoss()(pred, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_weight_of_the_spectrum_is_the_configured_one(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pixels, spectrum = CharbonnierLoss(1e-3)(*pair), SpectrumLoss()(*pair)
    assert TrainingLoss(1e-3, 0.0)(*pair).item() == pytest.approx(pixels.item())
    assert TrainingLoss(1e-3, 0.1)(*pair).item() == pytest.approx((pixels + 0.1 * spectrum).item())


def test_losses_of_half_precision_are_computed_in_float32(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pred, target = (half.bfloat16() for half in pair)
    loss = TrainingLoss(1e-3, 0.1)(pred, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, TrainingLoss(1e-3, 0.1)(pred.float(), target.float()))
