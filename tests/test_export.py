"""The ONNX file equals the network, at any size, and carries its contract."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deblur import export as exporting
from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.errors import ModelFileError
from deblur.export import contract_of, export_checkpoint, export_network
from deblur.images import to_float
from deblur.serving.setting import Setting, write_setting
from deblur.training.checkpoint import load_checkpoint
from tests.models.networks import small_nafnet


@pytest.fixture(scope="module")
def small_file(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of a small NAFNet with random weights."""
    checkpoint = load_checkpoint(tiny_run / "best.pt")
    config = {**checkpoint.config, "architecture": "nafnet"}
    contract = contract_of(replace(checkpoint, config=config), {"test_psnr": 20.0}, "simulated")
    path = tmp_path_factory.mktemp("small") / "nafnet.onnx"
    exported = export_network(small_nafnet(), contract, path)
    assert exported.path == path
    assert max(exported.parity.values()) <= 1e-4
    return path


@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 256, 256), (1, 97, 131), (1, 33, 250), (3, 64, 48)]
)
def test_the_file_equals_torch_at_any_size(
    tiny_run: Path, tiny_model: Path, photograph: np.ndarray, batch: int, height: int, width: int
) -> None:
    model = load_checkpoint(tiny_run / "best.pt").network()
    picture = np.resize(to_float(photograph), (batch, 3, height, width))
    with torch.inference_mode():
        expected = model(torch.from_numpy(picture)).numpy()
    session = onnxruntime.InferenceSession(tiny_model, providers=["CPUExecutionProvider"])
    result = session.run([OUTPUT], {INPUT: picture})[0]
    assert result.shape == picture.shape
    assert np.abs(result - expected).max() <= 1e-4
    assert np.abs(result - picture).max() > 1e-3  # the network does something


@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 256, 256), (1, 97, 131), (1, 33, 250), (2, 97, 131), (3, 16, 17)],
)
def test_a_small_nafnet_equals_torch_at_any_size(
    small_file: Path, photograph: np.ndarray, batch: int, height: int, width: int
) -> None:
    picture = np.resize(to_float(photograph), (batch, 3, height, width))
    with torch.inference_mode():
        expected = small_nafnet()(torch.from_numpy(picture)).numpy()
    session = onnxruntime.InferenceSession(small_file, providers=["CPUExecutionProvider"])
    result = session.run([OUTPUT], {INPUT: picture})[0]
    assert result.shape == picture.shape
    assert np.abs(result - expected).max() <= 1e-4
    assert np.abs(result - picture).mean() > 0.1  # the network does something


def test_nafnets_file_has_native_layer_normalisation_and_padding(small_file: Path) -> None:
    nodes = [node.op_type for node in onnx.load(small_file).graph.node]
    assert nodes.count("LayerNormalization") == 8
    assert nodes.count("Pad") == 2  # up to 16, then to a multiple of 16
    assert "If" not in nodes


def test_the_contract_says_which_architecture_it_is(small_file: Path) -> None:
    metadata = {p.key: p.value for p in onnx.load(small_file).metadata_props}
    contract = ModelContract.from_metadata(metadata, "nafnet.onnx")
    assert (contract.architecture, contract.norm) == ("NAFNet", "layer")
    assert (contract.multiple, contract.tiling) == (16, "tile-bound")


def test_it_is_one_file_beside_the_weights_with_operators_that_onnxruntime_has(
    tiny_model: Path,
) -> None:
    names = sorted(p.name for p in tiny_model.parent.iterdir())
    assert names == ["model.onnx", "model.safetensors"]
    model = onnx.load(tiny_model)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    # GroupNormalization would be expanded into a dozen operators.
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("InstanceNormalization") == 18
    assert "GroupNormalization" not in operators
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", 3, "height", "width"]


def test_the_contract_says_what_it_was_trained_on(tiny_run: Path, tiny_model: Path) -> None:
    checkpoint = load_checkpoint(tiny_run / "best.pt")
    metadata = {p.key: p.value for p in onnx.load(tiny_model).metadata_props}
    contract = ModelContract.from_metadata(metadata, "model.onnx")
    assert (contract.tile, contract.overlap, contract.multiple) == (64, 16, 16)
    assert (contract.train_crop, contract.base_ch, contract.norm) == (64, 8, "group8")
    assert (contract.architecture, contract.tiling) == ("DeblurUNet", "tile-bound")
    assert contract.data_digest == checkpoint.data_digest
    assert contract.config_digest == checkpoint.train_config().digest()
    assert (contract.form, contract.precision, contract.residual) == ("float", "fp32", True)
    assert contract.metrics["test_psnr"] == 20.0
    assert contract.data_kind == "simulated"
    assert len(contract.code_revision) >= 7


def test_a_file_that_differs_from_torch_is_not_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PARITY_LIMIT", -1.0)
    with pytest.raises(ModelFileError, match=r"differs from torch by .* on noise 1x1, coffee 1x1"):
        export_checkpoint(
            load_checkpoint(tiny_run / "best.pt"), tmp_path / "m.onnx", {}, "simulated"
        )
    assert list(tmp_path.iterdir()) == []


def test_neither_file_appears_if_the_weights_cannot_be_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "save_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        export_checkpoint(load_checkpoint(tiny_run / "best.pt"), tmp_path / "m.onnx", {}, "none")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_tuned_for_an_earlier_file_goes_with_it(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    sidecar = write_setting(path, Setting(tile=64, overlap=16))
    photographs: dict[str, np.ndarray] = {}
    exported = export_checkpoint(
        load_checkpoint(tiny_run / "best.pt"), path, {}, "none", photographs=photographs
    )
    assert not sidecar.exists()
    assert (exported.path, exported.safetensors) == (path, tmp_path / "m.safetensors")
    assert exported.parity.keys() == {
        "noise 1x1", "noise 33x250", "noise 97x131", "noise 256x256"
    }  # fmt: skip


def test_the_onnx_file_cannot_have_the_name_of_the_weights(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"name the ONNX file  \*\.onnx"):
        export_checkpoint(
            load_checkpoint(tiny_run / "best.pt"), tmp_path / "m.safetensors", {}, "none"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(
    tiny_run: Path, tiny_model: Path, tmp_path: Path
) -> None:
    program = """
import sys
from pathlib import Path
from deblur.export import export_checkpoint
from deblur.training.checkpoint import load_checkpoint
metrics = {"test_psnr": 20.0, "test_blurred_psnr": 19.0}
export_checkpoint(load_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), metrics, "simulated")
"""
    again = tmp_path / "model.onnx"
    command = [sys.executable, "-c", program, str(tiny_run / "best.pt"), str(again)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
    assert again.read_bytes() == tiny_model.read_bytes()
