"""Parameters and multiply-accumulates are those counted by hand and published."""

import pytest
import torch
from torch import nn

from deblur.models import build_network
from deblur.models.complexity import macs, parameters


def test_a_convolution_is_counted_as_by_hand() -> None:
    model = nn.Conv2d(3, 8, 3, padding=1)
    assert parameters(model) == 8 * 3 * 9 + 8
    assert macs(model, 32) == 8 * 3 * 9 * 32 * 32


def test_a_depthwise_convolution_has_one_input_for_each_output() -> None:
    assert macs(nn.Conv2d(3, 3, 3, padding=1, groups=3), 32) == 3 * 9 * 32 * 32


def test_weights_that_are_shared_count_once_but_compute_twice() -> None:
    layer = nn.Conv2d(3, 3, 1)
    assert parameters(nn.Sequential(layer, layer)) == 12
    assert macs(nn.Sequential(layer, layer), 10) == 2 * 9 * 100


def test_nafnet_at_width_32_computes_what_the_authors_state() -> None:
    model = build_network("nafnet", 32, True)
    assert parameters(model) == 17_111_907
    assert macs(model) == 15_956_027_392
    # The published figure, within a hundredth: the biases alone are 0.8 %, and not counted here.
    assert macs(model) == pytest.approx(16.06e9, rel=0.01)


def test_the_unet_at_width_32_computes_as_much_with_half_the_parameters() -> None:
    model = build_network("unet", 32, True)
    assert parameters(model) == 8_636_451
    assert macs(model) == 16_370_368_512


@pytest.mark.parametrize("word", ["unet", "nafnet"])
def test_four_times_the_pixels_are_four_times_the_work(word: str) -> None:
    # But for the attention's convolution of the means, which does not grow with the picture.
    model = build_network(word, 8, True)
    assert macs(model, 128) == pytest.approx(4 * macs(model, 64), rel=1e-2)


def test_counting_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert macs(model, 16) == 12 * 256
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model(torch.rand(1, 3, 4, 4, dtype=torch.float64)).dtype == torch.float64
