"""``deblur tune`` as a person runs it, with real clocks and everything this machine has."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur.cli import app
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting, read_setting
from deblur.tuning.probe import why_not


def deblur(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})
    return result.exit_code, re.sub(r"\s+", " ", result.output)


@pytest.mark.slow
def test_tuning_leaves_a_setting_that_is_served(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model.read_bytes())
    out = tmp_path / "tuning"
    code, said = deblur(
        "tune", model, tiny_data, "--quick", "--side", 96, "--rounds", 1, "--out", out
    )
    assert code == 0, said
    found = json.loads((out / "tuning.json").read_text())
    chosen = Setting(**found["choice"]["setting"])
    assert read_setting(model) == chosen
    assert chosen.sentence() in said
    assert found["choice"]["loss"] <= 0.05
    assert Engine(model).setting == chosen
    drawn = np.asarray(Image.open(out / "tuning.png").convert("RGB"))
    assert drawn.shape == (760, 1200, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    # Only what belongs to the result is left.
    left = {file.name for file in out.iterdir()} - {"model.int8.onnx"}
    assert left == {"tuning.json", "tuning.png", "measured.json"}


def test_a_model_that_is_not_there_is_said(tiny_data: Path, tmp_path: Path) -> None:
    code, said = deblur("tune", tmp_path / "none.onnx", tiny_data, "--out", tmp_path / "tuning")
    assert code == 2
    assert "there is no model file" in said


def test_a_probe_says_why_a_setting_does_not_run(tiny_model: Path) -> None:
    assert why_not(tiny_model, Setting(tile=64, overlap=16)) == ""
    said = why_not(tiny_model, Setting(precision="bf16", tile=64, overlap=16))
    assert "computes no bf16" in said


def test_a_probe_that_dies_is_an_answer(tmp_path: Path) -> None:
    said = why_not(tmp_path / "none.onnx", Setting(tile=64, overlap=16))
    assert "there is no model file" in said
