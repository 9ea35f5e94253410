"""What a container of the server would hold: its packages alone, and they are enough."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.conftest import decoded, encoded

ROOT = Path(__file__).parents[2]
MEGABYTES = 450


@pytest.mark.slow
def test_the_server_runs_on_its_own_packages_which_are_small(
    photograph: np.ndarray, tmp_path: Path
) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed: make test installs it")
    place = tmp_path / "environment"
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = ["pip", "install", "-q", "--python", str(python), "-c", "constraints.txt"]
    # Built from a copy: a build writes into the folder that it is built from.
    source = tmp_path / "source"
    for name in ("deblur", "components", "pipelines"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source / name)
    for arguments in (
        ["venv", "-q", "--python", sys.executable, str(place)],
        [*install, ".[serve,openvino]"],
    ):
        subprocess.run([uv, *arguments], check=True, cwd=source)
    size = sum(f.stat().st_size for f in place.rglob("*") if f.is_file() and not f.is_symlink())
    assert size / 1e6 < MEGABYTES
    packages = subprocess.run(
        [uv, "pip", "list", "--python", python], capture_output=True, text=True, check=True
    ).stdout
    assert "onnxruntime" in packages and "torch" not in packages and "mlflow" not in packages

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "deblur"]
    with (tmp_path / "log").open("wb") as log:
        serve = [*command, "serve", "--port", str(port)]
        server = subprocess.Popen(serve, stderr=log, cwd=tmp_path)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(600):
                try:
                    client.get("/readyz").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            answer = client.post("/v1/deblur", content=encoded(photograph))
            assert decoded(answer.content).shape == photograph.shape
            assert "Take the motion blur" in client.get("/").text
            assert client.get("/static/samples/coffee.jpg").status_code == 200
    finally:
        server.terminate()
        server.wait(30)

    # The same model, from the installed package, in this process and in the server.
    (tmp_path / "blurry.png").write_bytes(encoded(photograph))
    subprocess.run([*command, "predict", "blurry.png", "sharp.png"], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(
        decoded((tmp_path / "sharp.png").read_bytes()), decoded(answer.content)
    )
