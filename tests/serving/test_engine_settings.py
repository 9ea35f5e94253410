"""The engine in every setting: the same picture, by another way."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.errors import ModelFileError, SetupError
from deblur.images import to_float, to_uint8
from deblur.quantise import quantise
from deblur.serving import openvino
from deblur.serving.engine import Engine, read_contract
from deblur.serving.setting import Setting, int8_file, write_setting

PLAIN = Setting(tile=64, overlap=16)
FAST = Setting(provider="openvino", precision="bf16", tile=64, overlap=16)


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A model file that things may be written beside."""
    file = tmp_path / "model.onnx"
    file.write_bytes(tiny_model.read_bytes())
    return file


@pytest.fixture
def no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the OpenVINO plugin is not installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    monkeypatch.setattr(openvino, "_registered", openvino._registered.__wrapped__)


needs_openvino = pytest.mark.skipif(
    sys.platform == "darwin", reason="the plugin exists for x86-64 on Linux and Windows"
)


def differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Absolute differences of the delivered pictures, in levels."""
    return np.abs(to_uint8(ours).astype(int) - to_uint8(theirs).astype(int))


@pytest.mark.parametrize("streams", [2, 3])
def test_any_number_of_streams_gives_the_same_to_the_bit(
    tiny_model: Path, photograph: np.ndarray, streams: int
) -> None:
    planes = to_float(photograph)
    one = Engine(tiny_model, setting=PLAIN.model_copy(update={"threads": 1}))
    more = Engine(tiny_model, setting=PLAIN.model_copy(update={"threads": 1, "streams": streams}))
    more.warm_up()
    assert np.array_equal(one.predict(planes), more.predict(planes))


def test_pictures_predicted_at_once_do_not_mix(tiny_model: Path, photograph: np.ndarray) -> None:
    engine = Engine(tiny_model, setting=PLAIN.model_copy(update={"streams": 2}))
    pictures = [to_float(np.roll(photograph, 31 * n, axis=1)[:100, :130]) for n in range(5)]
    alone = [engine.predict(p) for p in pictures]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(engine.predict, pictures))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@needs_openvino
@pytest.mark.parametrize(("precision", "levels"), [("fp32", 1), ("bf16", 6)])
def test_openvino_gives_nearly_the_same_picture(
    tiny_model: Path, photograph: np.ndarray, precision: str, levels: int
) -> None:
    if precision == "bf16" and not openvino.computes_bf16():
        pytest.skip("this CPU computes no bf16")
    setting = Setting.model_validate({**FAST.model_dump(), "precision": precision})
    planes = to_float(photograph)
    ours = Engine(tiny_model, setting=setting).predict(planes)
    theirs = Engine(tiny_model, setting=PLAIN).predict(planes)
    assert differences(ours, theirs).max() <= levels
    # In other arithmetic: it would be equal to the bit if the plugin had not run.
    assert precision == "fp32" or not np.array_equal(ours, theirs)


def test_a_file_on_8_bit_pixels_gives_the_same_picture(
    copy: Path, tmp_path: Path, photograph: np.ndarray
) -> None:
    pixels = on_pixels(copy, tmp_path / "pixels.onnx")
    engine = Engine(pixels)
    assert engine.contract.form == "uint8"
    ours = engine.predict(to_float(photograph))
    assert ours.dtype == np.float32
    assert differences(ours, Engine(copy).predict(to_float(photograph))).max() <= 1


def test_the_setting_beside_the_file_is_taken_unless_another_is_given(copy: Path) -> None:
    assert Engine(copy).setting == Setting.of(read_contract(copy))
    beside = PLAIN.model_copy(update={"overlap": 32})
    write_setting(copy, beside)
    assert Engine(copy).setting == beside
    assert Engine(copy, setting=PLAIN).setting == PLAIN


def test_a_setting_from_beside_that_needs_a_missing_plugin_is_left_aside_with_one_warning(
    copy: Path, photograph: np.ndarray, no_plugin: None, caplog: pytest.LogCaptureFixture
) -> None:
    write_setting(copy, FAST.model_copy(update={"overlap": 32}))
    with caplog.at_level(logging.WARNING):
        engine = Engine(copy)
    assert engine.setting == Setting.of(engine.contract)
    assert len(caplog.messages) == 1
    assert "pip install 'deblur[openvino]'" in caplog.messages[0]
    assert "take the time that tuning had saved" in caplog.messages[0]
    plain = Engine(copy, setting=PLAIN)
    assert np.array_equal(engine.predict(to_float(photograph)), plain.predict(to_float(photograph)))


def test_a_given_setting_that_needs_a_missing_plugin_is_an_error(
    copy: Path, no_plugin: None
) -> None:
    with pytest.raises(SetupError, match=r"not installed .* pip install 'deblur\[openvino\]'"):
        Engine(copy, setting=FAST)


@needs_openvino
def test_bf16_on_a_cpu_without_it_is_an_error(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "computes_bf16", lambda: False)
    with pytest.raises(SetupError, match="no bf16 on this CPU"):
        Engine(copy, setting=FAST)


def test_a_precision_that_the_provider_lacks_is_an_error(copy: Path) -> None:
    with pytest.raises(SetupError, match="computes no bf16"):
        Engine(copy, setting=PLAIN.model_copy(update={"precision": "bf16"}))


def test_int8_runs_the_quantised_file_beside_the_model(copy: Path, photograph: np.ndarray) -> None:
    setting = PLAIN.model_copy(update={"precision": "int8"})
    with pytest.raises(ModelFileError, match=r"no .*model\.int8\.onnx: make it with"):
        Engine(copy, setting=setting)
    quantise(copy, int8_file(copy), [photograph[:64, :64], photograph[64:128, 64:128]])
    engine = Engine(copy, setting=setting)
    assert engine.sha256 == Engine(int8_file(copy)).sha256 != Engine(copy).sha256
    assert Engine(int8_file(copy)).setting.precision == "int8"
    ours, theirs = (e.predict(to_float(photograph)) for e in (engine, Engine(copy)))
    assert 0 < differences(ours, theirs).mean() < 3
    with pytest.raises(ModelFileError, match="quantised to int8 and cannot be run in fp32"):
        Engine(int8_file(copy), setting=PLAIN)


def test_a_quantised_file_of_another_model_is_refused(copy: Path, photograph: np.ndarray) -> None:
    quantise(copy, int8_file(copy), [photograph[:64, :64]])
    with_contract(copy, replace(read_contract(copy), config_digest="of another training"))
    with pytest.raises(ModelFileError, match="made from another model"):
        Engine(copy, setting=PLAIN.model_copy(update={"precision": "int8"}))


def with_contract(file: Path, contract: ModelContract) -> None:
    """Give a file another contract."""
    proto = onnx.load(file)
    del proto.metadata_props[:]
    for key, value in contract.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, file)


def on_pixels(model: Path, out: Path) -> Path:
    """The network of ``model`` with 8-bit pixels in and out, ``[N, H, W, 3]``."""
    proto = onnx.load(model)
    graph = proto.graph
    for node in graph.node:
        node.input[:] = ["planes" if name == INPUT else name for name in node.input]
        node.output[:] = ["result" if name == OUTPUT else name for name in node.output]
    scalars = (("scale", 127.5), ("one", 1.0), ("low", 0.0), ("high", 255.0))
    for name, value in scalars:
        graph.initializer.append(helper.make_tensor(f"px_{name}", TensorProto.FLOAT, [], [value]))
    before = [
        helper.make_node("Cast", [INPUT], ["px_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["px_float", "px_scale"], ["px_scaled"]),
        helper.make_node("Sub", ["px_scaled", "px_one"], ["px_centred"]),
        helper.make_node("Transpose", ["px_centred"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    after = [
        helper.make_node("Transpose", ["result"], ["px_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Add", ["px_last", "px_one"], ["px_raised"]),
        helper.make_node("Mul", ["px_raised", "px_scale"], ["px_levels"]),
        helper.make_node("Clip", ["px_levels", "px_low", "px_high"], ["px_clipped"]),
        helper.make_node("Round", ["px_clipped"], ["px_rounded"]),
        helper.make_node("Cast", ["px_rounded"], [OUTPUT], to=TensorProto.UINT8),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.UINT8, shape))
    onnx.save(proto, out)
    with_contract(out, replace(read_contract(model), form="uint8"))
    return out
