"""The file that says how a model is run."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from deblur.errors import ModelFileError
from deblur.serving.setting import Setting, read_setting, setting_file, write_setting

FAST = Setting(provider="openvino", precision="bf16", tile=256, overlap=32, threads=2)


def test_a_setting_comes_back_as_it_was_written(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    assert write_setting(model, FAST) == tmp_path / "model.serving.json"
    assert read_setting(model) == FAST


def test_a_model_without_a_setting_has_none(tmp_path: Path) -> None:
    assert read_setting(tmp_path / "model.onnx") is None


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"tile": 256}', '{"tile": 256, "overlap": 130}'])
def test_a_damaged_setting_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    model = tmp_path / "model.onnx"
    setting_file(model).write_text(text)
    with pytest.raises(ModelFileError, match=r"model\.serving\.json cannot be used .*tune"):
        read_setting(model)


def test_unknown_keys_and_impossible_geometry_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than half"):
        Setting(tile=64, overlap=48)
    with pytest.raises(ValidationError, match="extra"):
        Setting(tile=64, overlap=16, speed="fast")  # type: ignore[call-arg]
