"""NAFNet is the paper's network, takes any size and trains in bfloat16."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur.models import NAFNet
from deblur.models.nafnet import ChannelAttention, NAFBlock, simple_gate
from deblur.models.normalisation import LayerNorm2d
from tests.models.networks import small_nafnet


def noise(*shape: int) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("residual", [True, False])
def test_width_32_has_17111907_parameters(residual: bool) -> None:
    model = NAFNet(residual=residual)
    assert sum(p.numel() for p in model.parameters()) == 17_111_907


def test_the_default_network_has_the_authors_36_blocks_for_gopro() -> None:
    model = NAFNet(width=8)
    assert [len(level) for level in model.encoder] == [1, 1, 1, 28]  # type: ignore[arg-type]
    assert len(model.middle) == 1
    assert [len(level) for level in model.decoder] == [1, 1, 1, 1]  # type: ignore[arg-type]
    assert sum(isinstance(module, NAFBlock) for module in model.modules()) == 36
    channels = [module.beta.shape[1] for module in model.modules() if isinstance(module, NAFBlock)]
    assert channels == [8, 16, 32, *[64] * 28, 128, 64, 32, 16, 8]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 131), (33, 250), (16, 17), (1, 1)])
def test_any_size_comes_back_in_its_size(height: int, width: int) -> None:
    picture = noise(2, 3, height, width)
    result = small_nafnet()(picture)
    assert result.shape == picture.shape
    assert (result - picture).abs().mean() > 0.1  # the network does something


def test_other_sizes_are_continued_by_mirroring() -> None:
    model, picture = small_nafnet(), noise(1, 3, 97, 131)
    margins = ((0, 0), (0, 0), (0, 112 - 97), (0, 144 - 131))
    mirrored = torch.from_numpy(np.pad(picture.numpy(), margins, mode="reflect"))
    expected = model(mirrored)[..., :97, :131]
    assert torch.equal(model(picture), expected)


def test_a_picture_too_small_to_be_mirrored_is_continued_by_its_border() -> None:
    model, picture = small_nafnet(), noise(1, 3, 8, 64)
    expected = model(torch.cat([picture, *[picture[..., -1:, :]] * 8], dim=-2))[..., :8, :]
    assert torch.equal(model(picture), expected)


def test_an_untrained_residual_network_is_the_identity() -> None:
    picture = noise(1, 3, 45, 83)
    assert torch.equal(NAFNet(width=8)(picture), picture)


def test_an_untrained_network_that_is_not_residual_is_not() -> None:
    torch.manual_seed(0)
    picture = noise(1, 3, 48, 80)
    difference = (NAFNet(width=8, residual=False)(picture) - picture).abs().mean()
    assert difference > 0.1


def test_the_output_is_not_squashed_into_the_range() -> None:
    model = NAFNet(width=8)
    model.ending.bias = torch.nn.Parameter(torch.full((3,), 5.0))
    assert model(torch.zeros(1, 3, 32, 32)).min() == 5.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"encoder_blocks": (1, 1)}, "same number of levels, got 2 and 4"),
        ({"out_ch": 1}, "needs in_ch == out_ch, got 3 and 1"),
    ],
)
def test_arguments_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NAFNet(**options)


def test_the_gate_multiplies_the_halves_of_the_channels() -> None:
    x = torch.tensor([2.0, 3.0, 5.0, 7.0]).reshape(1, 4, 1, 1).expand(1, 4, 2, 3)
    assert torch.equal(simple_gate(x)[0, :, 1, 2], torch.tensor([10.0, 21.0]))
    assert simple_gate(x).shape == (1, 2, 2, 3)


def test_attention_scales_channels_by_a_linear_function_of_their_means() -> None:
    attention = ChannelAttention(2)
    with torch.no_grad():
        attention.mix.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 3.0]])[:, :, None, None])
        attention.mix.bias = torch.nn.Parameter(torch.tensor([0.5, -1.0]))
    x = torch.tensor([[0.0, 2.0], [3.0, 5.0]]).reshape(1, 2, 1, 2)  # means 1 and 4
    expected = torch.tensor([[0.0, 2 * 9.5], [3 * 11.0, 5 * 11.0]]).reshape(1, 2, 1, 2)
    assert torch.equal(attention(x), expected)


def test_a_new_block_is_the_identity() -> None:
    x = noise(2, 8, 6, 7)
    assert torch.equal(NAFBlock(8)(x), x)


def test_a_block_computes_the_papers_formula() -> None:
    block, x = small_nafnet().encoder[0][0], noise(1, 8, 5, 6)  # type: ignore[index]
    w = {name: value.detach().double() for name, value in block.named_parameters()}

    def pointwise(v: Tensor, name: str) -> Tensor:
        return torch.einsum("oi,bihw->bohw", w[f"{name}.weight"][:, :, 0, 0], v) + per_channel(
            w[f"{name}.bias"]
        )

    def per_channel(v: Tensor) -> Tensor:
        return v[:, None, None]

    def normal(v: Tensor, name: str) -> Tensor:
        mean, variance = v.mean(1, keepdim=True), v.var(1, keepdim=True, unbiased=False)
        scaled = (v - mean) / (variance + 1e-6).sqrt()
        return scaled * per_channel(w[f"{name}.weight"]) + per_channel(w[f"{name}.bias"])

    def depthwise(v: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(v, (1, 1, 1, 1))
        kernel, height, width = w["depthwise.weight"], v.shape[2], v.shape[3]
        terms = [
            padded[:, :, i : i + height, j : j + width] * per_channel(kernel[:, 0, i, j])
            for i in range(3)
            for j in range(3)
        ]
        return torch.stack(terms).sum(0) + per_channel(w["depthwise.bias"])

    y = x.double()
    v = depthwise(pointwise(normal(y, "norm1"), "expand1"))
    v = v[:, :8] * v[:, 8:]
    v = v * pointwise(v.mean((2, 3), keepdim=True), "attention.mix")
    y = y + w["beta"] * pointwise(v, "project1")
    v = pointwise(normal(y, "norm2"), "expand2")
    y = y + w["gamma"] * pointwise(v[:, :8] * v[:, 8:], "project2")
    assert (block(x).double() - y).abs().max() < 1e-5
    assert (y - x).abs().max() > 0.05


def test_layer_normalisation_is_that_of_each_pixels_channels() -> None:
    norm, x = LayerNorm2d(6), 3 + 2 * noise(2, 6, 4, 5)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 7.0))
        norm.bias.copy_(torch.arange(6.0))
    exact = x.double()
    mean, variance = exact.mean(1, keepdim=True), exact.var(1, keepdim=True, unbiased=False)
    expected = (exact - mean) / (variance + 1e-6).sqrt()
    expected = expected * torch.arange(1, 7)[:, None, None] + torch.arange(6)[:, None, None]
    assert (norm(x) - expected).abs().max() < 1e-5
    assert norm(x).dtype == torch.float32


def test_layer_normalisation_computes_in_float32_and_returns_the_inputs_type() -> None:
    # A large mean and a small deviation: statistics in bfloat16 would be lost.
    x, norm = (100 + noise(2, 8, 16, 16)).bfloat16(), LayerNorm2d(8)
    expected = norm(x.float()).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), expected)
    assert torch.equal(norm.bfloat16()(x), expected)
    assert expected.float().std().item() == pytest.approx(1.0, abs=0.05)


def test_memory_formats_give_the_same() -> None:
    model, picture = small_nafnet(), noise(2, 3, 97, 131)
    contiguous = model(picture)
    model.to(memory_format=torch.channels_last)
    last = model(picture.contiguous(memory_format=torch.channels_last))
    assert (last - contiguous).abs().max() < 1e-5
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_stays_close_and_adds_up_blocks_in_float32() -> None:
    model, picture = small_nafnet(), noise(2, 3, 64, 64)
    types: list[torch.dtype] = []
    model.encoder[3].register_forward_hook(lambda *args: types.append(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(picture)
    assert types == [torch.float32]
    assert half.dtype == torch.float32
    assert (half - model(picture)).abs().mean() < 0.02


def test_it_trains_under_autocast_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = NAFNet(width=8, encoder_blocks=(1, 1, 1, 2))
    model.to(memory_format=torch.channels_last)
    blurred = noise(2, 3, 32, 48).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            restored = model(blurred)
        loss = (restored.float() - 0.5 * blurred).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
    # Every weight takes part, those behind factors that were zero, too.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_running_it_draws_no_random_numbers() -> None:
    model, before = small_nafnet().train(), torch.get_rng_state()
    first, second = model(noise(1, 3, 33, 47)), model(noise(1, 3, 33, 47))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
