"""The command line: what it prints, what it leaves, how it ends."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur.cli import app
from tests.conftest import TINY

SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def deblur(*args: object) -> tuple[int, str]:
    """Exit code and everything printed, on one line."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})
    return result.exit_code, re.sub(r"\s+", " ", result.output)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with an MLflow store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}")
    return tmp_path


def test_from_pairs_to_a_deblurred_picture(workplace: Path, tiny_root: Path) -> None:
    code, said = deblur("train", tiny_root, "--out", "runs/mine", *SETTINGS)
    assert code == 0, said
    assert "dB on validation after 2 epochs" in said
    prepared = workplace / "runs" / "prepared" / "pairs-blur"

    code, said = deblur("evaluate", "runs/mine/best.pt", tiny_root)
    assert code == 0, said
    assert "lettering-test" in said

    code, said = deblur("export", "runs/mine/best.pt", prepared, "--out", "model.onnx")
    assert code == 0, said
    assert "dB on recorded test pictures" in said

    scores = [deblur("evaluate", m, prepared)[1] for m in ("runs/mine/best.pt", "model.onnx")]
    figures = [re.findall(r"[-+]?\d+\.\d\d\b", text.partition("PSNR")[0]) for text in scores]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 6
    assert "1 picture of 1 scene. A single picture has no interval." in scores[0]

    code, said = deblur("evaluate", "runs/mine", tiny_root, "--split", "train", "--out", "report")
    assert code == 0, said
    assert "4 pictures of 2 scenes" in said
    assert {p.name for p in (workplace / "report").iterdir()} == {"report.html", "report.json"}

    source = tiny_root / "test" / "lettering-test" / "blur"
    code, said = deblur("predict", source, "sharp", "--model", "model.onnx")
    assert code == 0, said
    before = np.asarray(Image.open(source / "000001.png"))
    after = np.asarray(Image.open(workplace / "sharp" / "000001.png"))
    assert after.shape == before.shape
    assert not np.array_equal(after, before)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "nowhere", "--out", "runs/x"], "there is no data folder nowhere"),
        (["train", ".", "--out", "runs/x", "--set", "epochs=3"], "unknown key 'epochs'"),
        (["train", ".", "--out", "runs/x", "--recipe", "sede"], "did you mean 'seed'"),
        (["evaluate", "none.pt", "."], "there is no checkpoint none.pt"),
        (["evaluate", "none.onnx", "."], "there is no model file none.onnx"),
        (["evaluate", "http://127.0.0.1:9", "."], "the server http://127.0.0.1:9 does not answer"),
        (["evaluate", "http://127.0.0.1:9/x.pt", "."], "does not answer"),
        (["serve", "--model", "none.onnx", "--port", "0"], "there is no model file none.onnx"),
        (["predict", "none.png", "out.png", "--model", "none.onnx"], "there is no model file"),
        (["data", "sample", "--averaging", "mean"], "expected blur or blur_gamma"),
        (["fetch", "models:/deblur-unet@candidate", "m.onnx"], "Register a model with the train"),
        (["predict", ".", "out", "--model", "models:/none@candidate"], "cannot fetch models:/none"),
    ],
)
def test_bad_input_ends_with_2_and_a_message_and_leaves_nothing(
    workplace: Path, args: list[str], message: str
) -> None:
    code, said = deblur(*args)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    left = {p.name for p in workplace.iterdir()} - {"mlflow.db", "mlruns"}
    assert left == set()


def test_a_port_in_use_is_reported_before_the_model_is_loaded(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = deblur("serve", "--model", tiny_model, "--port", port)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in said
    assert "choose another with --port" in said


def test_the_server_starts_answers_and_stops_cleanly(tiny_model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "deblur", "serve", "--model", str(tiny_model), "--port", "0"],
            stderr=out,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        for _ in range(600):
            found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", log.read_text())
            if found:
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        assert found
        assert httpx.get(f"{found[1]}/readyz").json()["status"] == "ready"
    finally:
        server.terminate()
    assert server.wait(20) in (0, -15, 143)
    assert "Traceback" not in log.read_text()


def test_what_keeps_a_server_from_starting_is_said_in_a_sentence(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "not a folder"
    folder.write_text("a file")
    code, said = deblur(
        "serve", "--model", tiny_model, "--port", "0", "--set", f"jobs_folder={folder}"
    )
    assert code == 2
    assert said.strip().splitlines()[-1].startswith("error: ") and str(folder) in said
    assert "Traceback" not in said


def test_doctor_finds_no_fault_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    code, said = deblur("doctor")
    assert code == 0, said
    assert "onnxruntime" in said
    assert "no faults" in said
