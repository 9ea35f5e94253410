"""The real platform in a folder of its own, by its commands, as a user has it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deblur.local.processes import HOST, marked
from deblur.local.state import StateFolder
from tests.gates.planted import GOOD, Sharpening, planted_file, planted_pairs

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


class Platform:
    """``deblur`` in a folder that has what a checkout has for Prefect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = StateFolder(folder).mark
        for name in ("prefect.yaml", "prefect.toml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "pipelines", folder / "pipelines")

    def deblur(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
        return subprocess.run(
            [sys.executable, "-m", "deblur", *args], cwd=self.folder,
            env={**clean, "COLUMNS": "200", **more}, capture_output=True, text=True, timeout=400,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.deblur("status", "--json").stdout)
        return said

    def part(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(p for p in self.status()["parts"] if p["name"] == name)
        return found

    def until(self, name: str, state: str, seconds: float = 180) -> dict[str, Any]:
        """The part, as soon as it is in that state."""
        end = time.monotonic() + seconds
        while (part := self.part(name))["state"] != state:
            assert time.monotonic() < end, (part, self.log("supervisor"), self.log(name))
            time.sleep(1)
        return part

    def log(self, name: str) -> str:
        file = self.folder / ".deblur" / "platform" / "logs" / f"{name}.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def listening(self) -> set[str]:
        """Addresses at which processes of this platform listen."""
        return {
            connection.laddr.ip
            for process in marked(self.mark)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Started with a port for MLflow that is taken."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    with closing(socket.socket()) as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = platform.deblur("up", "--detach", "--mlflow-port", str(port))
    try:
        assert up.returncode == 0, up.stdout + up.stderr + platform.log("supervisor")
        assert f"port {port} is taken: MLflow gets " in platform.log("supervisor")
        assert "  export PREFECT_API_URL=http://127.0.0.1:" in up.stdout
        assert '  $env:MLFLOW_TRACKING_URI = "http://127.0.0.1:' in up.stdout
        yield platform
    finally:
        platform.deblur("down")
        for process in marked(platform.mark):
            process.kill()


def test_after_up_all_is_well_on_this_machine_alone(platform: Platform) -> None:
    said = platform.status()
    assert said["well"] is True
    states = {part["name"]: part["state"] for part in said["parts"]}
    assert states == {
        "mlflow": "ready", "prefect": "ready", "worker": "ready", "deployments": "done",
        "pictures": states["pictures"],
    }  # fmt: skip
    assert all(part["memory"] > 2**20 for part in said["parts"] if part["state"] == "ready")
    assert httpx.get(platform.part("mlflow")["url"]).status_code == 200
    api = said["env"]["PREFECT_API_URL"]
    names = {d["name"] for d in httpx.post(f"{api}/deployments/filter", json={}).json()}
    assert "train-deblur" in names
    assert httpx.get(f"{api.removesuffix('/api')}/ui-settings").json()["api_url"] == api
    assert platform.listening() == {HOST}
    made = {path.name for path in platform.folder.iterdir()}
    assert made <= {
        ".deblur", ".prefect", "mlflow.db", "mlruns", "pipelines", "prefect.toml", "prefect.yaml",
    }  # fmt: skip


def test_status_shows_it_and_tells_shells_where_it_is(platform: Platform) -> None:
    shown = platform.deblur("status")
    assert shown.returncode == 0, shown.stdout
    for text in ("Prefect", "MLflow", "worker", "deployments", "picture server"):
        assert text in shown.stdout
    env = platform.status()["env"]
    bash = platform.deblur("status", "--env").stdout.splitlines()
    assert bash == [f"export {name}={value}" for name, value in env.items()]
    powershell = platform.deblur("status", "--env", "powershell").stdout.splitlines()
    assert powershell == [f'$env:{name} = "{value}"' for name, value in env.items()]
    assert platform.deblur("status", "--env", "fish").returncode == 2


def test_a_second_up_says_that_it_runs_and_starts_nothing(platform: Platform) -> None:
    before = {process.pid for process in marked(platform.mark)}
    second = platform.deblur("up")
    assert second.returncode == 0
    assert f"the platform of {platform.folder} runs already" in second.stdout
    assert {process.pid for process in marked(platform.mark)} == before


def test_a_part_that_is_killed_comes_back_at_its_address(platform: Platform) -> None:
    before = platform.part("mlflow")
    psutil.Process(before["pid"]).kill()
    platform.until("mlflow", "starting")
    assert platform.deblur("status").returncode == 1
    after = platform.until("mlflow", "ready")
    assert after["pid"] != before["pid"]
    assert (after["url"], after["restarts"]) == (before["url"], 1)
    assert "MLflow ended with -9, starts again in 1 s" in platform.log("supervisor")
    assert httpx.get(f"{after['url']}/health").text == "OK"


def test_a_model_that_is_registered_is_served_and_stays_without_the_server(
    platform: Platform, tmp_path: Path
) -> None:
    data = planted_pairs(tmp_path, 1)
    model = planted_file(Sharpening(GOOD), data, tmp_path / "model.onnx")
    register = (
        "import sys\nfrom pathlib import Path\nfrom tests.gates.planted import registered\n"
        "registered(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    env = {**os.environ, **platform.status()["env"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", register, str(model), str(data)]
    subprocess.run(command, env=env, cwd=tmp_path, check=True, timeout=120)
    end = time.monotonic() + 120
    while "models:/deblur-unet@candidate" not in platform.part("pictures")["note"]:
        assert time.monotonic() < end, platform.status()
        time.sleep(1)
    url = platform.until("pictures", "ready")["url"]
    assert httpx.get(f"{url}/readyz").status_code == 200
    # The same store without its server, as the other commands have it when the platform is down.
    shown = platform.deblur("registry", "ls", "--json")
    assert json.loads(shown.stdout)[0]["aliases"] == ["candidate"], shown.stderr
    fetched = platform.deblur("fetch", "models:/deblur-unet@candidate", str(tmp_path / "out.onnx"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()


def test_without_its_supervisor_status_says_so_and_up_takes_over(platform: Platform) -> None:
    said = platform.status()
    psutil.Process(said["supervisor"]).kill()
    shown = platform.deblur("status")
    assert shown.returncode == 1
    assert "nobody watches it any more" in shown.stdout
    again = platform.deblur("up", "--detach")
    assert again.returncode == 0, again.stdout + again.stderr
    after = platform.status()
    assert after["well"] is True
    assert [p["pid"] for p in after["parts"]] == [p["pid"] for p in said["parts"]]


def test_down_after_a_killed_supervisor_leaves_nothing(platform: Platform) -> None:
    psutil.Process(platform.status()["supervisor"]).kill()
    addresses = [part["url"] for part in platform.status()["parts"] if part["url"]]
    down = platform.deblur("down")
    assert down.returncode == 0, down.stderr
    lines = down.stdout.splitlines()
    assert lines[0] == "its supervisor is gone; what it left is stopped part by part"
    assert lines[1:-1] == [
        "picture server has stopped", "worker has stopped", "Prefect has stopped",
        "MLflow has stopped",
    ]  # fmt: skip
    assert lines[-1].startswith("all has stopped after ")
    assert marked(platform.mark) == []
    for address in addresses:
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
    assert platform.deblur("status").returncode == 1
    assert f"nothing runs in {platform.folder}" in platform.deblur("down").stdout


def test_up_after_down_keeps_the_deployments_and_down_stops_in_order(platform: Platform) -> None:
    up = platform.deblur("up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    assert platform.part("deployments")["note"] == "as before"
    down = platform.deblur("down")
    assert down.stdout.splitlines()[:-1] == [
        "picture server has stopped", "worker has stopped", "Prefect has stopped",
        "MLflow has stopped",
    ]  # fmt: skip
    assert marked(platform.mark) == []
