"""The client, against real servers and against ones that are busy or break off."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur.cli import app
from deblur.client import Client
from deblur.errors import PictureError, SetupError
from deblur.images import Limits, read_picture, read_rgb
from deblur.predict import deblur_files, predict_files
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import JobSettings
from deblur.serving.keys import Key, Keys, digest_of
from tests.serving.conftest import decoded, encoded
from tests.serving.live import serving


@pytest.fixture
def engine(tiny_model: Path) -> Engine:
    return Engine(tiny_model, threads=1)


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer after the other, and notes what it was asked."""
    left, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            status, headers, content = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_answer_is_the_servers(engine: Engine, photograph: np.ndarray) -> None:
    content = encoded(photograph, "JPEG")
    with serving(create_app(engine)) as address:
        client = Client(address + "/")
        assert client.ready()["model"]["sha256"] == engine.sha256
        answer = client.deblur(content, "image/png", quality=80)
    assert answer.headers["x-deblur-model"] == engine.sha256
    assert decoded(answer.content).shape == photograph.shape


def test_what_the_server_refuses_is_an_error_of_the_picture(engine: Engine) -> None:
    with serving(create_app(engine, Limits(megapixels=0.001))) as address:
        client = Client(address)
        with pytest.raises(PictureError, match=r"the limit is 0\.001"):
            client.deblur(encoded(np.zeros((64, 64, 3), np.uint8)))
        with pytest.raises(PictureError, match=r"query\.quality: "):
            client.deblur(encoded(np.zeros((8, 8, 3), np.uint8)), quality=0)


def test_a_key_is_sent(engine: Engine, detail: np.ndarray) -> None:
    with serving(create_app(engine, keys=Keys([Key("me", digest_of("right"))]))) as address:
        assert Client(address, "right").deblur(encoded(detail)).content
        with pytest.raises(SetupError, match=r"answers 401 .*wants an API key"):
            Client(address).deblur(encoded(detail))


def test_a_busy_server_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("deblur.client.time.sleep", slept.append)
    busy = (429, {"Retry-After": "7"}, b'{"detail": "later"}')
    with answering(busy, (503, {}, b""), (200, {"X-A": "b"}, b"sharp")) as (address, asked):
        answer = Client(address).deblur(b"blurred", frames="first")
    assert (answer.content, answer.headers["x-a"]) == (b"sharp", "b")
    assert asked == ["/v1/deblur?frames=first"] * 3
    assert slept[0] == 7


def test_patience_has_an_end() -> None:
    busy = (429, {"Retry-After": "1"}, b'{"detail": "too much"}')
    with (
        answering(busy, busy) as (address, asked),
        pytest.raises(SetupError, match=r"answers 429 \(too much\)"),
    ):
        Client(address, patience=0).deblur(b"blurred")
    assert len(asked) == 1


def test_a_folder_comes_back_by_way_of_the_server(
    engine: Engine, photograph: np.ndarray, tmp_path: Path
) -> None:
    source = tmp_path / "blurry"
    (source / "deeper").mkdir(parents=True)
    for name in ("a.png", "deeper/b.png", "c.bmp"):
        Image.fromarray(np.roll(photograph, len(name), 0)).save(source / name)
    (source / "bad.png").write_bytes(b"not a picture")
    with serving(create_app(engine)) as address:
        report = deblur_files(Client(address).restore, source, tmp_path / "sharp", side_by_side=2)
        again = deblur_files(Client(address).restore, source, tmp_path / "sharp", side_by_side=2)
    assert (report.written, report.skipped) == (3, 0)
    assert (again.written, again.skipped) == (0, 3)
    assert len(report.problems) == 1 and str(source / "bad.png") in report.problems[0]
    predict_files(engine.predict, source, tmp_path / "here")
    for name in ("a.png", "deeper/b.png", "c.bmp"):
        assert np.array_equal(
            read_rgb(tmp_path / "sharp" / name), read_rgb(tmp_path / "here" / name)
        )


def test_a_job_tells_of_its_tiles_and_is_forgotten(
    engine: Engine, photograph: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deblur.client._LOOK", 0.01)
    content, said = encoded(photograph), []
    jobs = JobSettings(folder=tmp_path / "jobs")
    with serving(create_app(engine, jobs=jobs)) as address:
        client = Client(address)
        as_job = client.deblur_as_job(content, on_tiles=lambda *tiles: said.append(tiles))
        assert as_job.content == client.deblur(content).content
        assert said[-1] == (24, 24) and said == sorted(said)
        with pytest.raises(PictureError, match="is not a picture"):
            client.deblur_as_job(b"hello, world, this is a text")
        figures = httpx.get(f"{address}/metrics").text
        assert "deblur_jobs_bytes 0.0" in figures


def test_the_command_line_sends_a_picture_to_a_server(
    engine: Engine, photograph: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(photograph).save(tmp_path / "a.png")
    out = [tmp_path / "b.png", tmp_path / "c.png"]
    with serving(create_app(engine, jobs=JobSettings(folder=tmp_path / "jobs"))) as address:
        for arguments in (
            ["predict", tmp_path / "a.png", out[0], "--server", address],
            ["client", address, tmp_path / "a.png", out[1]],
        ):
            said = CliRunner().invoke(app, [str(argument) for argument in arguments])
            assert said.exit_code == 0, said.output
    expected = engine.deblur(read_picture(tmp_path / "a.png")).rgb
    for file in out:
        assert np.array_equal(read_rgb(file), expected)
