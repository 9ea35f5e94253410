"""What a run reports reaches a real MLflow store once, through kills and outages."""

import json
import logging
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pynvml
import pytest
from mlflow import MlflowClient
from PIL import Image

from deblur import outbox, system_metrics, tracking
from deblur.errors import SetupError, StoppedError
from deblur.local.processes import HOST, free_port
from deblur.local.services import Services
from deblur.registry import fetch_model
from deblur.tracking import MlflowRun, run_exists, tracked_run
from deblur.training.tracked import RUN_FILE, _known_run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with nothing in it: to make one takes seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(address(file)).search_experiments()
    return file


def address(file: Path) -> str:
    return f"sqlite:///{file.as_posix()}"


@pytest.fixture
def folder(
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Path:
    """A folder to work in, with a store of its own, ``mlflow.db``, and short waits."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(tmp_path / "mlflow.db"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(outbox, "PAUSE", 0.2)
    caplog.set_level(logging.INFO, "deblur")
    return tmp_path


def curve(run_id: str, key: str) -> list[tuple[int, float]]:
    """Steps and values of a curve, in the order of their steps."""
    history = MlflowClient().get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in history)


def expected(steps: range) -> list[tuple[int, float]]:
    return [(step, step / 10) for step in steps]


def report(run: MlflowRun, steps: range) -> None:
    for step in steps:
        run.metrics({"loss": step / 10, "rate": 1.0}, step)


def status(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.status)


def artifacts(run_id: str, folder: Path) -> Path:
    to = str(folder / "fetched")
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=to))


def picture(brightness: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (brightness, brightness, brightness))


def texts(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    """What was logged at a level, by anybody."""
    return [r.getMessage() for r in caplog.records if r.levelname == level]


def test_a_run_records_what_it_is_told_with_the_time_of_each_report(folder: Path) -> None:
    (folder / "notes.txt").write_text("read me")
    with tracked_run("a run") as run:
        run.params({"width": 8, "shake": None})
        run.tags({"data.kind": "real"})
        times = []
        for step in range(1, 4):
            times.append(time.time() * 1000)
            run.metrics({"loss": step / 10, "psnr": math.nan}, step)
            time.sleep(0.05)
        run.picture(picture(200), "validation", 12)
        run.picture(picture(100).convert("RGBA"), "curve")
        run.artifact(Path("notes.txt"), "data")
    found = MlflowClient().get_run(run.run_id)
    assert found.info.run_name == "a run"
    assert found.data.params == {"width": "8", "shake": "None"}
    assert found.data.tags["data.kind"] == "real"
    assert found.data.tags["mlflow.source.type"] == "LOCAL"
    assert mlflow.get_experiment(found.info.experiment_id).name == "deblur"
    assert curve(run.run_id, "loss") == expected(range(1, 4))
    assert math.isnan(found.data.metrics["psnr"])
    history = MlflowClient().get_metric_history(run.run_id, "loss")
    assert [p.timestamp for p in history] == pytest.approx(times, abs=20)
    kept = artifacts(run.run_id, folder)
    with Image.open(kept / "validation" / "000012.jpg") as image:
        assert image.size == (16, 16)
        assert image.getpixel((8, 8)) == (200, 200, 200)
    with Image.open(kept / "curve.png") as image:
        assert image.getpixel((8, 8)) == (100, 100, 100)
    assert (kept / "data" / "notes.txt").read_text() == "read me"


def test_flush_tells_that_everything_so_far_is_in_the_store(folder: Path) -> None:
    with tracked_run("run") as run:
        report(run, range(500))
        run.picture(picture(1), "validation", 1)
        assert run.flush(60)
        assert curve(run.run_id, "loss") == expected(range(500))
        found = MlflowClient().list_artifacts(run.run_id, "validation")
        assert [file.path for file in found] == ["validation/000001.jpg"]


def test_a_picture_may_be_drawn_on_after_it_was_reported(folder: Path) -> None:
    drawn = picture(50)
    with tracked_run("run") as run:
        run.picture(drawn, "sheet")
        drawn.paste((255, 255, 255), (0, 0, 16, 16))
    with Image.open(artifacts(run.run_id, folder) / "sheet.png") as image:
        assert image.getpixel((8, 8)) == (50, 50, 50)


@pytest.mark.slow
def test_a_killed_run_that_reports_steps_again_has_neither_gaps_nor_doubled_points(
    folder: Path,
) -> None:
    program = (
        "import time, itertools\n"
        "from deblur.tracking import tracked_run\n"
        "with tracked_run('killed') as run:\n"
        "    for step in itertools.count():\n"
        "        run.metrics({'loss': step / 10, 'rate': 1.0}, step)\n"
        "        run.flush(60)\n"
        "        print(run.run_id, step, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    for line in process.stdout:
        run_id, last = line.split()
        if int(last) >= 30:
            break
    os.kill(process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.stdout.read()
    process.wait()
    assert status(run_id) == "RUNNING", "nothing could set it"

    with tracked_run("killed", run_id) as run:
        report(run, range(20, 60))
        run.metrics({"new": 1.0}, 5)
    assert run.run_id == run_id
    assert status(run_id) == "FINISHED"
    assert curve(run_id, "loss") == expected(range(60))
    assert [step for step, _ in curve(run_id, "rate")] == list(range(60))
    assert curve(run_id, "new") == [(5, 1.0)]


def test_a_gap_that_a_killed_run_left_is_filled(folder: Path) -> None:
    with tracked_run("run") as run:
        report(run, range(10))
        report(run, range(15, 20))
    with tracked_run("run", run.run_id):
        pass
    with tracked_run("run", run.run_id) as again:
        report(again, range(5, 30))
    assert curve(run.run_id, "loss") == expected(range(30))


def test_histories_are_looked_up_only_where_a_step_is_reported_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    genuine = MlflowClient.get_metric_history

    def counted(self: MlflowClient, run_id: str, key: str) -> list:
        looked_up.append(key)
        return genuine(self, run_id, key)

    monkeypatch.setattr(MlflowClient, "get_metric_history", counted)
    with tracked_run("run") as run:
        report(run, range(10))
        report(run, range(10))
    with tracked_run("run", run.run_id) as again:
        report(again, range(10, 20))
        again.metrics({"test_psnr": 20.0})
        assert again.flush(60)
        assert looked_up == []
        again.metrics({"loss": 0.9}, 9)
        again.metrics({"loss": 0.8}, 8)
        assert again.flush(60)
        assert looked_up == ["loss"]


def test_a_figure_of_the_whole_run_is_recorded_again_when_it_changes(folder: Path) -> None:
    with tracked_run("run") as run:
        run.metrics({"test_psnr": 20.0, "test_ssim": 0.5})
    for psnr in (20.0, 21.5):
        with tracked_run("run", run.run_id) as again:
            again.metrics({"test_psnr": psnr, "test_ssim": 0.5})
    assert MlflowClient().get_run(run.run_id).data.metrics == {"test_psnr": 21.5, "test_ssim": 0.5}
    assert curve(run.run_id, "test_psnr") == [(0, 20.0), (0, 21.5)]
    assert curve(run.run_id, "test_ssim") == [(0, 0.5)]


@pytest.mark.parametrize(
    ("raised", "ends"),
    [
        (None, "FINISHED"),
        (ValueError("no"), "FAILED"),
        (SystemExit(1), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (StoppedError(15, "stopped after epoch 3"), "KILLED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_the_status_tells_how_the_run_ended_and_what_it_reported_is_kept(
    folder: Path, raised: BaseException | None, ends: str
) -> None:
    with suppress(ValueError, SystemExit, KeyboardInterrupt, StoppedError), tracked_run("r") as run:
        report(run, range(100))
        if raised is not None:
            raise raised
    assert status(run.run_id) == ends
    assert curve(run.run_id, "loss") == expected(range(100))


def test_a_continued_run_is_running_again_and_ends_when_it_ends(folder: Path) -> None:
    with pytest.raises(RuntimeError), tracked_run("run") as run:
        raise RuntimeError("out of memory")
    before = MlflowClient().get_run(run.run_id).info
    assert before.status == "FAILED"
    time.sleep(0.05)
    with tracked_run("another name", run.run_id) as again:
        assert status(run.run_id) == "RUNNING"
        again.params({"width": 9})
    after = MlflowClient().get_run(run.run_id).info
    assert (after.status, after.run_name) == ("FINISHED", "run")
    assert after.start_time == before.start_time
    assert after.end_time >= before.end_time + 50


def test_a_continued_run_keeps_the_parameters_it_has(folder: Path) -> None:
    with tracked_run("run") as run:
        run.params({f"setting_{number}": number for number in range(150)})
    with tracked_run("run", run.run_id) as again:
        again.params({"setting_7": "another", "new": 1})
    params = MlflowClient().get_run(run.run_id).data.params
    assert len(params) == 151
    assert (params["setting_7"], params["setting_149"], params["new"]) == ("7", "149", "1")


@contextmanager
def changing(database: Path) -> Iterator[sqlite3.Connection]:
    """The store's file, opened behind its back."""
    with closing(sqlite3.connect(database, isolation_level=None)) as opened:
        yield opened


def test_a_locked_store_holds_up_nothing_and_loses_nothing(folder: Path) -> None:
    with tracked_run("run") as run:
        report(run, range(10))
        assert run.flush(60)
        with changing(folder / "mlflow.db") as database:
            database.execute("BEGIN EXCLUSIVE")
            started = time.monotonic()
            report(run, range(10, 50))
            assert time.monotonic() - started < 0.5
            assert not run.flush(1.0)
            database.execute("ROLLBACK")
        report(run, range(50, 60))
    assert curve(run.run_id, "loss") == expected(range(60))
    assert status(run.run_id) == "FINISHED"


def test_a_broken_store_is_told_once_and_gets_everything_when_it_is_mended(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracked_run("run") as run:
        report(run, range(10))
        assert run.flush(60)
        with changing(folder / "mlflow.db") as database:
            database.execute("ALTER TABLE metrics RENAME TO elsewhere")
            report(run, range(10, 50))
            assert not run.flush(2.0)
            database.execute("ALTER TABLE elsewhere RENAME TO metrics")
        report(run, range(50, 60))
    assert curve(run.run_id, "loss") == expected(range(60))
    assert status(run.run_id) == "FINISHED"
    (warning,) = texts(caplog, "WARNING")
    assert "does not take metrics" in warning and "no such table: metrics" in warning
    assert texts(caplog, "ERROR") == [], "MLflow's own traceback of every attempt is kept quiet"


def test_a_name_that_the_store_refuses_costs_only_its_own_points(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracked_run("run") as run:
        for step in range(20):
            run.metrics({"loss": step / 10, "what?": 1.0}, step)
    assert curve(run.run_id, "loss") == expected(range(20))
    (error,) = texts(caplog, "ERROR")
    assert "MLflow refuses the metric what?" in error


def test_a_file_that_is_not_there_is_told_at_once_and_one_that_went_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = first, gone, stays = [folder / name for name in ("first.txt", "gone.txt", "stays.txt")]
    for file in files:
        file.write_text("here")
    genuine, go = MlflowClient.log_artifact, threading.Event()

    def held_up(self: MlflowClient, *args: str) -> None:
        go.wait()
        genuine(self, *args)

    monkeypatch.setattr(MlflowClient, "log_artifact", held_up)
    with tracked_run("run") as run:
        with pytest.raises(FileNotFoundError, match=r"nowhere\.txt cannot be kept"):
            run.artifact(folder / "nowhere.txt")
        for file in files:
            run.artifact(file)
        gone.unlink()
        go.set()
    assert texts(caplog, "ERROR") == [f"{gone} is gone, and was not kept with the run"]
    kept = [file.path for file in MlflowClient().list_artifacts(run.run_id)]
    assert kept == [first.name, stays.name]


# --- a store that cannot be reached ---------------------------------------------------------------


class Server:
    """An MLflow server on the store of a folder, at an address that stays when it starts again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(0)
        self.running: Services | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        if self.running is None:
            command = [
                "mlflow", "server", "--backend-store-uri", address(self.folder / "mlflow.db"),
                "--artifacts-destination", str(self.folder / "artifacts"), "--host", HOST,
                "--port", str(self.port), "--workers", "1",
            ]  # fmt: skip
            env = {"DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.running = Services(self.folder / "logs", env).__enter__()
            self.running.start("mlflow", command, self.port, "/health", timeout=180)

    def stop(self) -> None:
        if self.running is not None:
            self.running.__exit__(None, None, None)
            self.running = None


@pytest.fixture(scope="module")
def one_server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def server(folder: Path, one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A running server; a test may stop it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.url)
    one_server.start()
    return one_server


@pytest.mark.slow
def test_a_server_that_stops_and_starts_again_loses_and_doubles_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notes = server.folder / "notes.txt"
    notes.write_text("read me")
    waits = []

    def timed(call: Callable[..., None], *args: object) -> None:
        started = time.monotonic()
        call(*args)
        waits.append(time.monotonic() - started)

    def report(steps: range) -> None:
        for step in steps:
            timed(run.metrics, {"loss": step / 10, "psnr": math.inf}, step)

    with tracked_run("run") as run:
        report(range(200))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        for step in range(200, 600):  # some of them on their way as it stops
            report(range(step, step + 1))
            time.sleep(0.01)
        stopping.join()
        report(range(600, 2000))
        for number in range(3):
            timed(run.picture, picture(number), "validation", number)
        timed(run.artifact, notes)
        assert not run.flush(4.0)
        server.start()
        assert run.flush(60)
        report(range(2000, 2010))
    assert max(waits) < 1
    assert curve(run.run_id, "loss") == expected(range(2010))
    assert [step for step, _ in curve(run.run_id, "psnr")] == list(range(2010))
    assert status(run.run_id) == "FINISHED"
    client = MlflowClient()
    pictures = [file.path for file in client.list_artifacts(run.run_id, "validation")]
    assert pictures == [f"validation/00000{number}.jpg" for number in range(3)]
    assert "notes.txt" in [file.path for file in client.list_artifacts(run.run_id)]
    warned = [text.split(" (")[0] for text in texts(caplog, "WARNING")]
    assert sorted(warned) == [
        f"the MLflow store {server.url} does not take {what}"
        for what in ("files", "metrics", "pictures")
    ]
    assert len([text for text in texts(caplog, "INFO") if "takes metrics again" in text]) == 1
    assert texts(caplog, "ERROR") == []

    with tracked_run("run", run.run_id) as run:
        report(range(1990, 2020))
    assert curve(run.run_id, "loss") == expected(range(2020))


@pytest.mark.slow
def test_a_server_that_does_not_come_back_ends_no_training_and_the_loss_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "STATUS_SECONDS", 1.0)
    with tracked_run("run") as run:
        report(run, range(10))
        assert run.flush(60)
        server.stop()
        report(run, range(10, 30))
        run.picture(picture(1), "validation", 1)
        for call in (lambda: run.params({"width": 8}), lambda: run.tags({"kind": "real"})):
            with pytest.raises(SetupError, match="cannot be reached"):
                call()
        ended = time.monotonic()
    assert time.monotonic() - ended < 6
    lost = [text.split(", which")[0] for text in texts(caplog, "ERROR")]
    assert lost == ["lost: 40 metrics", "lost: 1 pictures", "lost: 1 final status"]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(server.folder / "mlflow.db"))
    assert status(run.run_id) == "RUNNING"
    with tracked_run("run", run.run_id) as again:
        report(again, range(5, 30))
    assert status(run.run_id) == "FINISHED"
    assert curve(run.run_id, "loss") == expected(range(30))


class Answer(BaseHTTPRequestHandler):
    """Says the same to everybody."""

    code = 503

    def do_GET(self) -> None:
        self.send_error(self.code)

    def do_POST(self) -> None:
        self.send_error(self.code)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=["nobody listens", 500, 503, 404, 403])
def unusable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that is no MLflow store, or one in trouble."""
    if isinstance(request.param, str):
        url = f"http://{HOST}:{free_port(0)}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url
        return
    monkeypatch.setattr(Answer, "code", request.param)
    with ThreadingHTTPServer((HOST, 0), Answer) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        url = f"http://{HOST}:{listening.server_address[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url
        listening.shutdown()


def test_a_store_that_cannot_be_used_is_an_error_at_once_and_never_a_new_run(
    folder: Path, unusable: str
) -> None:
    (folder / RUN_FILE).write_text(json.dumps({"run_id": "0" * 32}))
    started = time.monotonic()
    for call in (
        lambda: _known_run(folder),
        lambda: run_exists("0" * 32),
        lambda: tracked_run("run").__enter__(),
        lambda: fetch_model("models:/deblur-unet@candidate", folder / "model.onnx"),
    ):
        with pytest.raises(SetupError, match=f"the MLflow store {unusable} cannot be reached"):
            call()
    assert time.monotonic() - started < 20


def test_a_run_is_known_if_the_store_has_it_and_it_was_not_deleted(folder: Path) -> None:
    assert _known_run(folder) is None
    with tracked_run("run") as run:
        pass
    for text, known in (
        (json.dumps({"run_id": run.run_id}), run.run_id),
        (json.dumps({"run_id": "0" * 32}), None),
        (json.dumps({"run_id": "no/such id"}), None),
        ("{}", None),
        ("cut off", None),
    ):
        (folder / RUN_FILE).write_text(text)
        assert _known_run(folder) == known
    MlflowClient().delete_run(run.run_id)
    assert not run_exists(run.run_id)


# --- the machine ----------------------------------------------------------------------------------


def system_curves(run_id: str) -> dict[str, list[int]]:
    keys = [key for key in MlflowClient().get_run(run_id).data.metrics if key.startswith("system/")]
    return {key: [step for step, _ in curve(run_id, key)] for key in keys}


def test_what_the_machine_does_is_recorded_and_goes_on_with_a_continued_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(system_metrics, "SECONDS", 0.1)
    with tracked_run("run", system_metrics=True) as run:
        time.sleep(1.0)
    first = system_curves(run.run_id)
    time.sleep(0.5)
    with tracked_run("run", run.run_id, system_metrics=True):
        time.sleep(1.0)
    both = system_curves(run.run_id)
    assert {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_percentage",
        "system/disk_available_megabytes",
        "system/network_receive_megabytes",
    } <= both.keys()
    for key, steps in both.items():
        assert len(steps) == len(set(steps)) >= len(first[key]) + 4 >= 8, key
        assert steps[: len(first[key])] == first[key], key
        assert steps[-1] >= 20, "steps follow the clock"
    memory = (
        MlflowClient().get_run(run.run_id).data.metrics["system/system_memory_usage_percentage"]
    )
    assert 0 < memory < 100
    assert not any(thread.name == "system metrics" for thread in threading.enumerate())
    quiet = texts(caplog, "WARNING") + texts(caplog, "ERROR")
    assert quiet == [], "no GPU is nothing to talk about"


def test_a_gpu_is_watched_where_there_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "the GPU",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=30e9, total=120e9),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
        "nvmlDeviceGetPowerUsage": 350_000,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    }
    for name, answer in driver.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(system_metrics, "SECONDS", 0.1)
    with tracked_run("run", system_metrics=True) as run:
        time.sleep(0.5)
    found = MlflowClient().get_run(run.run_id).data.metrics
    assert {key: value for key, value in found.items() if "gpu" in key} == {
        "system/gpu_0_memory_usage_megabytes": 30e3,
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_power_usage_percentage": 50.0,
        "system/gpu_0_power_usage_watts": 350.0,
        "system/gpu_0_utilization_percentage": 97.0,
    }


def test_a_machine_is_not_watched_unasked(folder: Path) -> None:
    with tracked_run("run") as run:
        assert not any(thread.name == "system metrics" for thread in threading.enumerate())
        run.metrics({"loss": 1.0}, 1)
    assert system_curves(run.run_id) == {}


def test_an_instrument_that_fails_ends_the_watching_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> float:
        raise OSError("no such sensor")

    monkeypatch.setattr(system_metrics, "SECONDS", 0.05)
    monkeypatch.setattr("psutil.cpu_percent", broken)
    with tracked_run("run", system_metrics=True) as run:
        time.sleep(0.5)
        run.metrics({"loss": 0.1}, 1)
    assert curve(run.run_id, "loss") == [(1, 0.1)]
    assert status(run.run_id) == "FINISHED"
    assert texts(caplog, "WARNING") == ["this machine is no longer measured: no such sensor"]


def test_system_metrics_without_psutil_say_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.system_metrics.metrics.cpu_monitor", None)
    with pytest.raises(SetupError, match="system metrics need psutil"):
        tracked_run("run", system_metrics=True).__enter__()
    assert MlflowClient().search_experiments(filter_string="name = 'deblur'") == []
