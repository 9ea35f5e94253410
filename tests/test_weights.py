"""The weights alone: read back to the bit, and only whole ones of a network of ours."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deblur.contract import ModelContract
from deblur.errors import ModelFileError
from deblur.models import build_network, traits
from deblur.training.checkpoint import load_checkpoint
from deblur.weights import load_safetensors, save_safetensors


@pytest.fixture
def weights(tiny_model: Path) -> Path:
    return tiny_model.with_suffix(".safetensors")


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_an_export_brings_the_weights_that_it_exports(tiny_run: Path, weights: Path) -> None:
    checkpoint = load_checkpoint(tiny_run / "best.pt")
    expected, found = checkpoint.network().state_dict(), load_file(weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    contract = ModelContract.from_metadata(metadata_of(weights), "w")
    assert (contract.architecture, contract.base_ch, contract.tile) == ("DeblurUNet", 8, 64)


@pytest.mark.parametrize(
    ("word", "residual"), [("unet", True), ("unet", False), ("nafnet", True), ("nafnet", False)]
)
def test_the_network_comes_back_to_the_bit(tmp_path: Path, word: str, residual: bool) -> None:
    torch.manual_seed(3)
    model = build_network(word, 8, residual).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape), alpha=0.1)
    contract = ModelContract(
        architecture=traits(word).name, base_ch=8, tile=64, overlap=16, train_crop=64, metrics={},
        data_kind="none", subset="blur", data_digest="d", config_digest="c", code_revision="r",
        residual=residual,
    )  # fmt: skip
    path = tmp_path / "m.safetensors"
    save_safetensors(model, contract, path)
    again = load_safetensors(path)
    path.unlink()
    assert type(again) is type(model)
    assert not again.training
    picture = torch.rand(1, 3, 33, 50)
    with torch.inference_mode():
        assert torch.equal(again(picture), model(picture))


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no weights file"):
        load_safetensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_a_truncated_file_is_refused(weights: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"cut\.safetensors is damaged or not a safetensors"):
        load_safetensors(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_ch": 16}, "does not hold the weights of its DeblurUNet with base_ch 16"),
        ({"base_ch": 10**9 * 8}, "does not hold the weights"),
        ({"base_ch": 9}, "a positive multiple of 8, got 9"),
        ({"base_ch": "8"}, "has the base_ch '8', this program knows int"),
        ({"architecture": "NAFNet"}, "does not hold the weights of its NAFNet"),
        ({"architecture": "Restormer"}, "there is no network 'Restormer'"),
        ({"version": 2}, "contract version 2, this program reads 3"),
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(
    weights: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    metadata = {f"deblur.{key}": json.dumps(value) for key, value in changes.items()}
    changed = tmp_path / "changed.safetensors"
    save_file(load_file(weights), changed, {**metadata_of(weights), **metadata})
    with pytest.raises(ModelFileError, match=message):
        load_safetensors(changed)


def test_another_programs_weights_lack_the_contract(weights: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(weights), bare)
    with pytest.raises(ModelFileError, match="does not carry the serving contract"):
        load_safetensors(bare)


def test_weights_of_half_the_precision_are_refused(weights: Path, tmp_path: Path) -> None:
    halved = tmp_path / "halved.safetensors"
    tensors = {name: value.half() for name, value in load_file(weights).items()}
    save_file(tensors, halved, metadata_of(weights))
    with pytest.raises(ModelFileError, match=r"weights of torch\.float16, not torch\.float32"):
        load_safetensors(halved)
