"""The network of the contract."""

import pytest
import torch

from deblur.models import DeblurUNet
from deblur.models.normalisation import GroupNorm


@pytest.mark.parametrize("residual", [True, False])
def test_base_32_has_8636451_parameters(residual: bool) -> None:
    model = DeblurUNet(residual=residual)
    assert sum(p.numel() for p in model.parameters()) == 8_636_451


@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 131), (33, 250), (16, 17), (1, 1)])
def test_any_size_comes_back_in_its_size(height: int, width: int) -> None:
    model = DeblurUNet(base_ch=8, residual=False)
    picture = torch.zeros(2, 3, height, width)
    assert model(picture).shape == picture.shape


def test_a_picture_smaller_than_the_stride_is_continued_by_its_border() -> None:
    model, picture = DeblurUNet(base_ch=8, residual=False), torch.rand(1, 3, 5, 40) * 2 - 1
    expected = model(torch.cat([picture, *[picture[..., -1:, :]] * 11], dim=-2))[..., :5, :]
    assert torch.equal(model(picture), expected)


def test_an_untrained_residual_network_is_the_identity() -> None:
    picture = torch.rand(1, 3, 48, 80) * 2 - 1
    assert torch.equal(DeblurUNet(base_ch=8)(picture), picture)


def test_the_documents_literal_network_is_not() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 48, 80) * 2 - 1
    difference = (DeblurUNet(base_ch=8, residual=False)(picture) - picture).abs().mean()
    assert difference > 0.1


def test_the_output_is_not_squashed_into_the_range() -> None:
    model = DeblurUNet(base_ch=8)
    model.final.bias = torch.nn.Parameter(torch.full((3,), 5.0))
    assert model(torch.zeros(1, 3, 32, 32)).min() == 5.0


@pytest.mark.parametrize("base_ch", [0, 12])
def test_widths_that_eight_groups_cannot_share_are_refused(base_ch: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        DeblurUNet(base_ch=base_ch)


def test_normalisation_computes_in_float32_under_autocast() -> None:
    # A large mean and a small deviation: statistics in bfloat16 would be lost.
    x = 100 + torch.randn(2, 8, 32, 32)
    norm = GroupNorm(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        restored = norm(x)
        half = norm(x.bfloat16())
    assert restored.dtype == torch.float32
    assert torch.equal(restored, torch.nn.functional.group_norm(x, 8, norm.weight, norm.bias))
    assert half.dtype == torch.bfloat16
    assert half.detach().float().std().item() == pytest.approx(1.0, abs=0.05)
