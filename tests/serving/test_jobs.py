"""The jobs' HTTP interface, on a real server."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from deblur.errors import PictureError
from deblur.serving.app import create_app
from deblur.serving.jobs import runner
from deblur.serving.jobs.job import JobSettings
from tests.serving.conftest import encoded
from tests.serving.jobs_server import LIMITS
from tests.serving.live import serving
from tests.serving.test_service import HeldEngine, until


@pytest.fixture
def held(tiny_model: Path) -> HeldEngine:
    return HeldEngine(tiny_model)


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    return JobSettings(folder=tmp_path / "jobs")


@pytest.fixture
def app(held: HeldEngine, settings: JobSettings) -> FastAPI:
    return create_app(held, LIMITS, jobs=settings)


@pytest.fixture
def client(app: FastAPI, held: HeldEngine) -> Iterator[httpx.Client]:
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client
        held.go_on.set()


def events(client: httpx.Client, id: str) -> list[dict]:
    """All events of a job up to the end of the stream."""
    with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
        return [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]


def wait_for(client: httpx.Client, id: str, state: str) -> dict:
    deadline = time.monotonic() + 30
    while (job := client.get(f"/v1/jobs/{id}").json())["state"] != state:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return job


def test_a_picture_is_sent_followed_fetched_and_forgotten(
    app: FastAPI, client: httpx.Client, held: HeldEngine, photograph: np.ndarray
) -> None:
    body = encoded(photograph)
    at_once = client.post("/v1/deblur", content=body, headers={"accept": "image/webp"})
    held.hold()
    app.state.service._model.scheduler.tile_seconds = 1.0
    sent = client.put("/v1/jobs/a-1_B", content=body, headers={"accept": "image/webp"})
    assert sent.status_code == 201
    job = sent.json()
    assert (job["id"], job["width"], job["height"]) == ("a-1_B", 301, 203)
    assert job["tiles"] == {"done": 0, "total": 24}
    assert job["seconds_left"] >= 24
    assert {job[key] for key in ("error", "expires", "model", "result")} == {None}
    held.go_on.set()

    last = events(client, "a-1_B")[-1]
    assert last["state"] == "done"
    assert last["tiles"] == {"done": 24, "total": 24}
    assert last["seconds_left"] is None
    assert last["model"] == held.sha256
    assert last["expires"] > last["created"]
    assert client.get("/v1/jobs/a-1_B").json() == last

    result = client.get(last["result"])
    assert result.status_code == 200
    assert result.content == at_once.content
    named = ("content-type", "x-deblur-model", "x-deblur-tiles", "x-deblur-plan")
    assert [result.headers[n] for n in named] == [at_once.headers[n] for n in named]
    assert float(result.headers["x-deblur-seconds"]) > 0
    assert result.headers["cache-control"] == "no-store"

    assert client.delete("/v1/jobs/a-1_B").status_code == 204
    for path in ("", "/events", "/result"):
        answer = client.get(f"/v1/jobs/a-1_B{path}")
        assert answer.status_code == 404
        assert "there is no job 'a-1_B'" in answer.json()["detail"]
    assert client.delete("/v1/jobs/a-1_B").status_code == 404


def test_progress_comes_as_events_not_more_than_five_a_second(
    client: httpx.Client, held: HeldEngine, photograph: np.ndarray
) -> None:
    held.hold()
    client.put("/v1/jobs/a", content=encoded(photograph))
    with client.stream("GET", "/v1/jobs/a/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        began, said = time.monotonic(), []
        for line in stream.iter_lines():
            if line.startswith("data: "):
                said.append(json.loads(line[6:]))
                held.go_on.set()
            else:
                assert line in ("", "event: job")
    assert said[0]["state"] in ("queued", "running")
    assert said[-1]["state"] == "done"
    assert len(said) <= 2 + (time.monotonic() - began) / 0.2
    assert [s["tiles"]["done"] for s in said] == sorted(s["tiles"]["done"] for s in said)


def test_a_quiet_stream_says_that_it_is_still_there(
    client: httpx.Client,
    held: HeldEngine,
    photograph: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_BEAT", 0.1)
    monkeypatch.setattr(runner, "_LOOK", 0.05)
    held.hold()
    client.put("/v1/jobs/a", content=encoded(photograph))
    with client.stream("GET", "/v1/jobs/a/events") as stream:
        assert ": still there" in stream.iter_lines()


def test_several_listen_and_one_that_leaves_is_no_burden(
    client: httpx.Client, held: HeldEngine, photograph: np.ndarray
) -> None:
    held.hold()
    client.put("/v1/jobs/a", content=encoded(photograph))

    def ended() -> float:
        pattern = 'deblur_requests_total{method="GET",route="/v1/jobs/{id}/events",status="200"} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line[len(pattern) :]) for line in lines if line.startswith(pattern))

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(events, client, "a") for _ in range(2)]
        with client.stream("GET", "/v1/jobs/a/events") as leaving:
            lines = leaving.iter_lines()  # closes the stream when it is thrown away
            next(lines)
            assert ended() == 0
        until(lambda: ended() == 1)
        held.go_on.set()
        assert [other.result()[-1]["state"] for other in others] == ["done", "done"]


def test_the_same_request_is_the_same_job_and_another_one_is_a_conflict(
    client: httpx.Client, held: HeldEngine, photograph: np.ndarray
) -> None:
    body = encoded(photograph)
    held.hold()
    first = client.put("/v1/jobs/a", content=body, params={"quality": 80})
    again = client.put("/v1/jobs/a", content=body, params={"quality": 80})
    form = client.put("/v1/jobs/a", files={"image": ("a.png", body)}, params={"quality": 80})
    assert [first.status_code, again.status_code, form.status_code] == [201, 200, 200]
    assert again.json()["created"] == first.json()["created"]
    held.go_on.set()
    wait_for(client, "a", "done")
    assert client.put("/v1/jobs/a", content=body, params={"quality": 80}).json()["state"] == "done"

    for other, options in (
        (encoded(photograph[::-1]), {"params": {"quality": 80}}),
        (body, {"params": {"quality": 81}}),
        (body, {"params": {"quality": 80}, "headers": {"accept": "image/bmp"}}),
    ):
        answer = client.put("/v1/jobs/a", content=other, **options)
        assert answer.status_code == 409
        assert "choose another id" in answer.json()["detail"]


def test_the_same_request_sent_at_once_many_times_gives_one_job(
    client: httpx.Client, settings: JobSettings, photograph: np.ndarray
) -> None:
    body = encoded(photograph)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.put("/v1/jobs/a", content=body), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.json()["created"] for answer in answers}) == 1
    assert len([path for path in settings.folder.iterdir() if path.is_dir()]) == 1


def test_a_running_job_has_no_result_and_is_cancelled_at_once(
    app: FastAPI,
    client: httpx.Client,
    held: HeldEngine,
    settings: JobSettings,
    photograph: np.ndarray,
) -> None:
    held.hold()
    client.put("/v1/jobs/a", content=encoded(photograph))
    assert held.begun.acquire(timeout=20)
    early = client.get("/v1/jobs/a/result")
    assert early.status_code == 409
    assert "is running, 0 of 24 tiles are done" in early.json()["detail"]
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(events, client, "a")
        until(lambda: following.running())
        time.sleep(0.1)
        assert client.delete("/v1/jobs/a").status_code == 204
        assert following.result()[-1]["state"] == "cancelled"
    assert app.state.service.idle
    assert [path.name for path in settings.folder.iterdir()] == ["lock"]
    held.go_on.set()
    until(lambda: app.state.service._model.scheduler.tiles_left == 0)
    assert not held.begun.acquire(timeout=0.2)
    assert client.put("/v1/jobs/a", content=encoded(photograph[::-1])).status_code == 201


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (PictureError("the picture is damaged"), 415, "the picture is damaged"),
        (ZeroDivisionError("secret"), 500, "the server failed on this picture"),
    ],
)
def test_a_job_that_fails_says_of_what(
    client: httpx.Client,
    held: HeldEngine,
    photograph: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    told: str,
) -> None:
    def failing(tiles: np.ndarray) -> np.ndarray:
        raise error

    monkeypatch.setattr(held, "run_tile", failing)
    client.put("/v1/jobs/a", content=encoded(photograph))
    job = wait_for(client, "a", "failed")
    assert job["error"]["status"] == status
    assert told in job["error"]["detail"]
    assert "secret" not in job["error"]["detail"]
    assert (job["result"], job["seconds_left"]) == (None, None)
    assert job["expires"]
    result = client.get("/v1/jobs/a/result")
    assert (result.status_code, result.json()["detail"]) == (status, job["error"]["detail"])


def test_a_picture_whose_header_is_whole_and_the_rest_is_not_fails(
    client: httpx.Client, photograph: np.ndarray
) -> None:
    sent = client.put("/v1/jobs/a", content=encoded(photograph)[:-20_000])
    assert sent.status_code == 201
    job = wait_for(client, "a", "failed")
    assert job["error"]["status"] == 415
    assert "damaged" in job["error"]["detail"]


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda c, p: c.put("/v1/jobs/a", content=b""), 400),
        (lambda c, p: c.put("/v1/jobs/a", content=p, headers={"accept": "image/jxl"}), 406),
        (lambda c, p: c.put("/v1/jobs/a", content=bytes(2**20 + 9000)), 413),
        (lambda c, p: c.put("/v1/jobs/a", content=b"hello"), 415),
        (lambda c, p: c.put("/v1/jobs/a", content=p, params={"quality": 0}), 422),
        (lambda c, p: c.put("/v1/jobs/a.b", content=p), 422),
        (lambda c, p: c.put(f"/v1/jobs/{'a' * 65}", content=p), 422),
        (lambda c, p: c.put("/v1/jobs/..%2Fa", content=p), 404),
    ],
)
def test_what_is_wrong_with_a_request_is_told_at_once_and_nothing_is_stored(
    client: httpx.Client,
    settings: JobSettings,
    photograph: np.ndarray,
    ask: Callable[[httpx.Client, bytes], httpx.Response],
    status: int,
) -> None:
    assert ask(client, encoded(photograph)).status_code == status
    assert [path.name for path in settings.folder.iterdir()] == ["lock"]


def test_a_picture_above_the_limit_is_refused_from_its_header(client: httpx.Client) -> None:
    large = encoded(np.zeros((400, 300, 3), np.uint8))
    assert client.put("/v1/jobs/a", content=large).status_code == 413


def test_a_server_that_is_being_stopped_takes_on_no_job(
    app: FastAPI, client: httpx.Client, photograph: np.ndarray
) -> None:
    app.state.service.draining = True
    answer = client.put("/v1/jobs/a", content=encoded(photograph))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_full_disk_is_507(
    client: httpx.Client, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deblur.atomic.os.fsync", full)
    answer = client.put("/v1/jobs/a", content=encoded(photograph))
    assert answer.status_code == 507
    assert "No space left on device" in answer.json()["detail"]
    monkeypatch.undo()
    assert client.get("/v1/jobs/a").status_code == 404
    assert client.put("/v1/jobs/a", content=encoded(photograph)).status_code == 201


def test_metrics_and_description_know_jobs(
    client: httpx.Client, held: HeldEngine, photograph: np.ndarray
) -> None:
    held.hold()
    client.put("/v1/jobs/a", content=encoded(photograph))
    said = client.get("/metrics").text
    assert "deblur_jobs_unfinished 1.0" in said
    held.go_on.set()
    described = client.get("/openapi.json").json()["paths"]
    put = described["/v1/jobs/{id}"]["put"]
    expected = {"200", "201", "400", "406", "409", "413", "415", "422", "429", "503", "507"}
    assert expected <= put["responses"].keys()
    assert "multipart/form-data" in put["requestBody"]["content"]
    events_of = described["/v1/jobs/{id}/events"]["get"]["responses"]["200"]
    assert list(events_of["content"]) == ["text/event-stream"]
    results = described["/v1/jobs/{id}/result"]["get"]["responses"]
    assert {"200", "404", "409", "410", "415", "500"} <= results.keys()
