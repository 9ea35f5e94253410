"""Runs and schedules, against a stand-in that records what a Kubeflow server would be sent.

It answers as the interface v2beta1 does; that a real server takes the pipeline it cannot show.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deblur.errors import ConfigError
from deblur.local.processes import free_port
from pipelines.kubeflow.__main__ import app
from pipelines.kubeflow.client import cron_of

EXPERIMENT = {"experiment_id": "e1", "display_name": "deblur"}


class StandIn(ThreadingHTTPServer):
    """Keeps requests and recurring runs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[tuple[str, str, Any]] = []
        self.recurring: dict[str, str] = {}
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, method: str, path: str) -> list[Any]:
        """Bodies of what was sent there."""
        return [body for m, p, body in self.sent if m == method and p.endswith(path)]


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, value: object) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/healthz"):
            self.answer(200, {"multi_user": False})
        elif path.endswith("/experiments"):
            self.answer(200, {"experiments": [EXPERIMENT], "total_size": 1})
        elif path.endswith("/recurringruns"):
            known = self.server.recurring.items()
            found = [{"recurring_run_id": i, "display_name": name} for i, name in known]
            self.answer(200, {"recurringRuns": found})
        else:
            self.answer(200, EXPERIMENT)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent.append(("POST", self.path.partition("?")[0], body))
        if self.server.refuses:
            self.answer(400, {"error": "invalid", "message": "the pipeline is too new"})
        elif self.path.endswith("/recurringruns"):
            number = f"r{len(self.server.sent)}"
            self.server.recurring[number] = body["display_name"]
            self.answer(200, {"recurring_run_id": number, **body})
        else:
            self.answer(200, {"run_id": "run-1", **body})

    def do_DELETE(self) -> None:
        self.server.sent.append(("DELETE", self.path, None))
        del self.server.recurring[self.path.rpartition("/")[2]]
        self.answer(200, {})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with StandIn() as stand_in:
        thread = threading.Thread(target=stand_in.serve_forever)
        thread.start()
        yield stand_in
        stand_in.shutdown()
        thread.join()


def call(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*args])
    return result.exit_code, result.output


def test_a_run_is_sent_with_its_parameters_and_the_pipeline(server: StandIn) -> None:
    code, said = call(
        "run", "--host", server.url, "--param", "overrides.num_epochs=3", "--param",
        "recipe=gopro", "--image", "registry.example.org/deblur:7",
    )  # fmt: skip
    assert code == 0, said
    assert "run-1" in said
    (sent,) = server.of("POST", "/runs")
    parameters = sent["runtime_config"]["parameters"]
    assert parameters["recipe"] == "gopro"
    assert int(parameters["overrides"]["num_epochs"]) == 3
    assert parameters["data_root"] == "/data/pairs"
    assert "registry.example.org/deblur:7" in json.dumps(sent["pipeline_spec"])


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("recipe=goproo", "gopro"),
        ("overrides.num_epoch=3", "num_epochs"),
        ("data_rot=/data/pairs", "data_root"),
        ("runs_dir=/tmp/runs", "/data"),
        ("runs_dir=/data/../tmp", "/data"),
        ("checks.misalignd.threshold=3", "misaligned"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_is_sent(
    server: StandIn, parameter: str, said: str
) -> None:
    code, output = call("run", "--host", server.url, "--param", parameter)
    assert code == 2
    assert "error:" in output and said in output
    assert server.sent == []


def test_a_schedule_runs_at_the_time_that_crontab_means_and_replaces_its_namesake(
    server: StandIn,
) -> None:
    server.recurring = {"old": "weekly", "other": "nightly"}
    code, said = call("schedule", "--host", server.url, "--cron", "0 3 * * 0", "--name", "weekly")
    assert code == 0, said
    (sent,) = server.of("POST", "/recurringruns")
    assert sent["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 0"
    assert int(sent["max_concurrency"]) == 1
    assert sent["no_catchup"] is True
    assert sorted(server.recurring.values()) == ["nightly", "weekly"]
    assert "old" not in server.recurring


def test_a_schedule_of_a_named_run_is_refused(server: StandIn) -> None:
    code, said = call(
        "schedule", "--host", server.url, "--cron", "0 3 * * 0", "--param", "run_name=mine"
    )
    assert code == 2 and "run_name" in said
    assert server.sent == []


@pytest.mark.parametrize(
    "cron", ["0 3 * *", "60 3 * * 0", "0 24 * * *", "a 3 * * 0", "*/0 3 * * 0"]
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(ConfigError):
        cron_of(cron)


def test_what_the_server_says_is_passed_on(server: StandIn) -> None:
    server.refuses = True
    code, said = call("run", "--host", server.url)
    assert code == 2
    assert "the pipeline is too new" in said


def test_a_server_that_is_not_there_is_named_in_one_line() -> None:
    code, said = call("run", "--host", f"http://127.0.0.1:{free_port(0)}")
    assert code == 2
    assert "cannot be reached" in said and "Traceback" not in said
