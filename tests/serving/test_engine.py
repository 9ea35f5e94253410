"""The engine gives what torch gives, and refuses files it cannot serve."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from deblur.errors import ModelFileError
from deblur.images import Picture, to_float, to_uint8
from deblur.serving.engine import Engine
from deblur.training.checkpoint import load_checkpoint


@pytest.mark.parametrize("size", [(203, 301), (64, 64), (20, 150), (1, 1)])
def test_it_equals_the_evaluation_in_torch(
    engine: Engine, tiny_run: Path, photograph: np.ndarray, size: tuple[int, int]
) -> None:
    picture = photograph[: size[0], : size[1]]
    theirs = load_checkpoint(tiny_run / "best.pt").predictor()(to_float(picture))
    ours = engine.predict(to_float(picture))
    assert ours.shape == (1, 3, *size)
    assert np.abs(ours - theirs).max() <= 1e-4
    difference = to_uint8(ours).astype(int) - to_uint8(theirs).astype(int)
    assert np.abs(difference).max() <= 1


def test_alpha_is_left_alone(engine: Engine, photograph: np.ndarray) -> None:
    alpha = photograph[::-1, :, 0].copy()
    result = engine.deblur(Picture(photograph, alpha))
    assert result.alpha is alpha
    assert not np.array_equal(result.rgb, photograph)


def test_a_file_without_the_contract_is_refused_with_what_is_missing(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(tiny_model)
    kept = [p for p in model.metadata_props if not p.key.endswith(("tile", "overlap"))]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ModelFileError, match="tile, overlap missing from its metadata"):
        Engine(tmp_path / "bare.onnx")


def test_a_contract_of_another_colour_order_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model)
    for entry in model.metadata_props:
        if entry.key == "deblur.colour_order":
            entry.value = '"BGR"'
    onnx.save(model, tmp_path / "bgr.onnx")
    with pytest.raises(ModelFileError, match="expects BGR"):
        Engine(tmp_path / "bgr.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"not a readable ONNX file|there is no model file"):
        Engine(path)
