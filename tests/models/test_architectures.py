"""The words of the configuration name the right networks, and their traits are true."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from deblur.models import DeblurUNet, NAFNet, build_network, traits
from deblur.models.normalisation import GroupNorm, LayerNorm2d
from tests.models.networks import small_nafnet


@pytest.mark.parametrize(("word", "kind"), [("unet", DeblurUNet), ("nafnet", NAFNet)])
def test_a_word_names_its_network_and_its_traits(word: str, kind: type[nn.Module]) -> None:
    model = build_network(word, 8, True)
    assert type(model) is kind
    assert traits(word).name == kind.__name__
    assert next(model.parameters()).shape[0] == 8


@pytest.mark.parametrize("word", ["unet", "nafnet"])
def test_residual_is_passed_on(word: str) -> None:
    picture = torch.rand(1, 3, 32, 32)
    assert torch.equal(build_network(word, 8, True)(picture), picture)
    assert not torch.equal(build_network(word, 8, False)(picture), picture)


def test_the_norms_are_those_of_the_networks() -> None:
    group, layer = build_network("unet", 8, True), build_network("nafnet", 8, True)
    assert (traits("unet").norm, traits("nafnet").norm) == ("group8", "layer")
    assert {m.num_groups for m in group.modules() if isinstance(m, GroupNorm)} == {8}
    assert sum(isinstance(m, LayerNorm2d) for m in layer.modules()) == 72
    assert not any(isinstance(m, nn.GroupNorm) for m in layer.modules())


def test_the_multiple_is_the_total_stride() -> None:
    coarsest: list[torch.Size] = []
    unet, nafnet = DeblurUNet(base_ch=8), NAFNet(width=8)
    unet.bottleneck.register_forward_hook(lambda *args: coarsest.append(args[2].shape[2:]))
    nafnet.middle.register_forward_hook(lambda *args: coarsest.append(args[2].shape[2:]))
    for model in (unet, nafnet):
        model(torch.zeros(1, 3, 64, 96))
    assert coarsest == [(64 // traits("unet").multiple, 96 // traits("nafnet").multiple)] * 2
    assert nafnet.multiple == traits("nafnet").multiple


@pytest.mark.parametrize(
    ("word", "make"),
    [("unet", lambda: DeblurUNet(base_ch=8, residual=False)), ("nafnet", small_nafnet)],
)
def test_tile_bound_networks_see_the_whole_tile(word: str, make: Callable[[], nn.Module]) -> None:
    # Much further apart than the convolutions reach.
    torch.manual_seed(0)
    model, picture = make(), torch.rand(1, 3, 16, 512)
    changed = picture.clone()
    changed[..., 496:] = -1
    difference = (model(changed) - model(picture))[..., :16].abs().max().item()
    assert traits(word).tiling == "tile-bound"
    assert difference > 1e-4


@pytest.mark.parametrize("ask", [traits, lambda word: build_network(word, 8, True)])
def test_another_word_is_refused_with_the_known_ones(ask: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="no architecture 'UNet': choose unet or nafnet"):
        ask("UNet")
