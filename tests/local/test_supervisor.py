"""Parts are started in order, started again when they die, and given up when that does not help.

The servers are small ones; ``test_platform.py`` does it with the real ones.
"""

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deblur.default import DEFAULT
from deblur.errors import SetupError
from deblur.local import model, supervisor
from deblur.local.model import Served, choose_model
from deblur.local.parts import Part
from deblur.local.processes import HOST, free_port, marked
from deblur.local.state import PartState, Ports, StateFolder
from deblur.local.supervisor import Supervisor
from tests.local.test_processes import until


class Small:
    """A platform of small servers in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = StateFolder(folder)
        self.said: list[str] = []
        self.model: Served | None = None
        self.served: list[str] = []
        (folder / "prefect.yaml").write_text("deployments: []\n")

    def up(self) -> Supervisor:
        ports = Ports(prefect=free_port(0), mlflow=free_port(0), pictures=free_port(0))
        return Supervisor(self.folder, ports, self.said.append)

    def part(self, name: str) -> PartState:
        state = self.files.read()
        assert state is not None
        return next(part for part in state.parts if part.name == name)

    def condition(self, name: str) -> str:
        return self.part(name).condition


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    small = Small(tmp_path)

    def server(name: str) -> Callable[..., Part]:
        def part(port: int, *rest: object) -> Part:
            if name == "pictures":
                small.served.append(str(rest[0]))
            return Part(name, ("http.server", "--bind", HOST, str(port)), port)

        return part

    monkeypatch.setattr(supervisor, "mlflow_server", server("mlflow"))
    monkeypatch.setattr(supervisor, "picture_server", server("pictures"))
    monkeypatch.setattr(
        supervisor, "prefect_server", lambda port: Part("prefect", ("no_such_module",), port)
    )
    monkeypatch.setattr(supervisor, "choose_model", lambda url: small.model)
    monkeypatch.setattr(supervisor, "LOOK", 0.1)
    yield small
    for process in marked(small.files.mark):
        process.kill()


def ticking(platform: Supervisor, true: Callable[[], bool]) -> None:
    def look() -> bool:
        platform.tick()
        return true()

    until(look, 60.0)


def test_a_part_that_dies_is_started_again_later_each_time_and_then_stays_down(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.2)
    with small.up() as platform:
        ticking(platform, lambda: small.condition("prefect") == "failed")
        # What needs it is not started.
        assert small.condition("worker") == "waiting"
        ticking(platform, lambda: small.condition("mlflow") == "ready")
        # Nobody who waits for the platform waits for what does not come.
        ticking(platform, lambda: platform.state.settled)
        platform.ask_to_stop()
        platform.run()
    part = [line for line in small.said if line.startswith("Prefect")]
    assert len(part) == supervisor.FAILURES
    assert "ended with 1, starts again in 0 s" in part[0]
    assert "No module named no_such_module" in part[0]
    assert "ended with 1 for the 5th time and stays down" in part[-1]
    assert small.files.read() is None
    assert marked(small.files.mark) == []


def test_pauses_double_up_to_the_longest(small: Small) -> None:
    with small.up() as platform:
        ticking(platform, lambda: small.part("prefect").restarts == 2)
        platform.ask_to_stop()
        platform.run()
    assert [line.split("starts again in ")[1][:3] for line in small.said if "again in" in line] == [
        "1 s", "2 s",
    ]  # fmt: skip


def test_pictures_wait_for_a_model_and_follow_the_better_one(small: Small) -> None:
    with small.up() as platform:
        ticking(platform, lambda: bool(small.part("pictures").note))
        assert small.condition("pictures") == "waiting"
        assert "no model yet" in small.part("pictures").note
        small.model = Served("models:/deblur-unet@candidate", "1")
        ticking(platform, lambda: small.condition("pictures") == "ready")
        # The server itself follows the versions of an alias.
        before = small.part("pictures").process
        small.model = Served("models:/deblur-unet@candidate", "2")
        time.sleep(0.2)
        for _ in range(3):
            platform.tick()
        assert small.part("pictures").process == before
        small.model = Served("models:/deblur-unet@champion", "2")
        ticking(platform, lambda: small.part("pictures").process not in (before, None))
        ticking(platform, lambda: small.condition("pictures") == "ready")
        platform.ask_to_stop()
        platform.run()
    assert small.served[-1] == "models:/deblur-unet@champion"
    assert "models:/deblur-unet@champion from now on" in "\n".join(small.said)


def test_a_second_supervisor_is_refused_while_the_first_one_lives(small: Small) -> None:
    with small.up(), pytest.raises(SetupError, match="runs already: deblur status"), small.up():
        pass
    with small.up() as platform:
        assert platform.state.parts[0].condition == "waiting"


def test_what_a_lost_supervisor_left_is_taken_over_at_its_address(small: Small) -> None:
    with small.up() as platform:
        ticking(platform, lambda: small.condition("mlflow") == "ready")
        before = small.part("mlflow")
    # It left without stopping anything, as one that was killed.
    with small.up() as platform:
        ticking(platform, lambda: small.condition("prefect") == "pausing")
        assert small.part("mlflow").process == before.process
        assert small.part("mlflow").url == before.url
        platform.ask_to_stop()
        platform.run()
    assert before.process is not None
    taken = f"MLflow still runs, process {before.process.pid}: taken over"
    assert [line for line in small.said if "taken over" in line] == [taken]
    assert marked(small.files.mark) == []


def test_a_port_that_is_taken_is_replaced_and_said(small: Small) -> None:
    with HTTPServer((HOST, 0), BaseHTTPRequestHandler) as other:
        taken = other.server_address[1]
        with Supervisor(small.folder, Ports(mlflow=taken), small.said.append) as platform:
            assert platform.state.ports.mlflow != taken
            assert len(set(platform.state.ports.model_dump().values())) == 3
    expected = f"port {taken} is taken: MLflow gets {platform.state.ports.mlflow}"
    assert expected in small.said


@pytest.mark.parametrize(
    ("aliases", "default", "chosen"),
    [
        ({"candidate": "3", "champion": "2"}, True, Served("models:/deblur-unet@champion", "2")),
        ({"candidate": "3"}, True, Served("models:/deblur-unet@candidate", "3")),
        ({}, True, Served(DEFAULT)),
        (None, True, Served(DEFAULT)),
        (None, False, None),
    ],
)
def test_the_champion_goes_before_the_candidate_before_the_default(
    aliases: dict[str, str] | None,
    default: bool,
    chosen: Served | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = [{"alias": k, "version": v} for k, v in (aliases or {}).items()]
            self.send_response(404 if aliases is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"registered_model": {"aliases": listed}}).encode())

        def log_message(self, *_: object) -> None:
            pass

    file = tmp_path / "model.onnx"
    if default:
        file.write_bytes(b"a model")
    monkeypatch.setattr(model, "DEFAULT_MODEL", file)
    with HTTPServer((HOST, 0), Registry) as registry:
        Thread(target=registry.handle_request, daemon=True).start()
        assert choose_model(f"http://{HOST}:{registry.server_address[1]}") == chosen
