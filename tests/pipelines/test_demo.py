"""The demo, shortened: one small epoch, everything else as `make demo` does it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SHORT = ["--set", "num_epochs=1", "--set", "crops_per_image=1"]


def demo(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.demo", *args], cwd=folder,
        env={**env, "COLUMNS": "200"}, capture_output=True, text=True, timeout=360,
    )  # fmt: skip


def servers_in(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if process.info["cwd"] == str(folder):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def test_the_demo_ends_with_a_sheet_and_leaves_no_server_and_a_second_one_reuses_it(
    tmp_path: Path,
) -> None:
    first = demo(tmp_path, *SHORT)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "made data/sample: 104 training, 8 validation and 12 test pairs" in first.stdout
    assert "registered models:/deblur-unet@candidate, version 1" in first.stdout
    for address in ("Prefect       http://", "MLflow        http://", "server        http://"):
        assert address in first.stdout
    assert "on held-out scenes (simulated blur)" in first.stdout
    sheet = tmp_path / "runs" / "demo" / "before_after.png"
    assert Image.open(sheet).size == (1040, 1160)
    report = tmp_path / "runs" / "validation" / "sample-blur" / "report.html"
    assert "Usable" in report.read_text(encoding="utf-8")
    assert servers_in(tmp_path) == []
    assert {p.name for p in tmp_path.iterdir()} == {
        ".deblur", ".prefect", "data", "mlflow.db", "mlruns", "runs",
    }  # fmt: skip

    second = demo(tmp_path, *SHORT)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "kept data/sample" in second.stdout
    assert "registered models:/deblur-unet@candidate, version 1" in second.stdout
    assert "epoch 1/1" in first.stderr
    assert "epoch 1/1" not in second.stderr


def test_a_bad_setting_ends_the_demo_before_anything_is_made(tmp_path: Path) -> None:
    done = demo(tmp_path, "--set", "num_epoch=1")
    assert done.returncode == 2
    assert "did you mean 'num_epochs'?" in done.stdout
    assert list(tmp_path.iterdir()) == []
