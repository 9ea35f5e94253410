"""Quantised networks: what they keep, and what is refused."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from deblur import quantise as quantising
from deblur.data.pairs import open_pairs
from deblur.errors import ModelFileError
from deblur.images import to_float, to_uint8
from deblur.metrics import psnr
from deblur.quantise import calibration_tiles, quantise
from deblur.serving.engine import Engine, read_contract


@pytest.fixture(scope="module")
def tiles(tiny_data: Path) -> list[np.ndarray]:
    return calibration_tiles(open_pairs(tiny_data, "train"), 64)


def test_tiles_come_from_different_training_pictures(tiny_data: Path) -> None:
    train = open_pairs(tiny_data, "train")
    tiles = calibration_tiles(train, 64, count=3)
    assert [tile.shape for tile in tiles] == [(64, 64, 3)] * 3
    assert all(tile.dtype == np.uint8 for tile in tiles)
    blurred = [train.read(index)[0] for index in (0, 2, 3)]
    for tile, picture in zip(tiles, blurred, strict=True):
        # At the border a part of the tile is mirrored, its first corner never.
        corner = tile[:16, :16].transpose(2, 0, 1)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (16, 16), axis=(0, 1))
        assert (windows == corner).all(axis=(2, 3, 4)).any()


def test_the_quantised_network_keeps_picture_and_contract(
    tiny_model: Path, tiles: list[np.ndarray], tmp_path: Path, photograph: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.WARNING):
        out = quantise(tiny_model, tmp_path / "model.int8.onnx", tiles)
    assert caplog.messages == []
    assert read_contract(out) == replace(read_contract(tiny_model), precision="int8")
    assert out.stat().st_size < 0.6 * tiny_model.stat().st_size
    before, after = (Engine(file).predict(to_float(photograph)) for file in (tiny_model, out))
    assert psnr(to_uint8(after), to_uint8(before)) > 35
    assert not np.array_equal(before, after)


def test_the_first_and_last_convolution_stay_in_float(
    tiny_model: Path, tiles: list[np.ndarray], tmp_path: Path
) -> None:
    graph = onnx.load(quantise(tiny_model, tmp_path / "model.int8.onnx", tiles)).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = [made_by.get(n.input[1], "float") for n in graph.node if n.op_type == "Conv"]
    assert weights[0] == weights[-1] == "float"
    assert set(weights[1:-1]) == {"DequantizeLinear"}


def test_nonsense_is_not_written(
    tiny_model: Path, tiles: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising, "_BROKEN", 0.0)
    out = tmp_path / "model.int8.onnx"
    with pytest.raises(ModelFileError, match="nothing was written"):
        quantise(tiny_model, out, tiles)
    assert list(tmp_path.iterdir()) == []


def test_without_pictures_or_of_a_quantised_file_nothing_is_quantised(
    tiny_model: Path, tiles: list[np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="without pictures"):
        quantise(tiny_model, tmp_path / "a.onnx", [])
    once = quantise(tiny_model, tmp_path / "b.onnx", tiles)
    with pytest.raises(ModelFileError, match="in int8 already"):
        quantise(once, tmp_path / "c.onnx", tiles)
