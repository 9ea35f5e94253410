"""Many clients at once: admission, deadlines, leaving, draining, changing the model."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.routes import requests as reading
from deblur.serving.service import DeadlineError, Service, Wanted
from deblur.serving.setting import Setting
from tests.serving.conftest import decoded, encoded
from tests.serving.live import serving

LIMITS = Limits(megabytes=1, megapixels=0.1)


class HeldEngine(Engine):
    """An engine whose tiles wait, after the warm-up, until they are let go."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, threads=1)
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Semaphore(0)

    def hold(self) -> None:
        self.go_on.clear()
        while self.begun.acquire(blocking=False):
            pass

    def run_tile(self, tiles: np.ndarray) -> np.ndarray:
        self.begun.release()
        assert self.go_on.wait(30)
        return super().run_tile(tiles)


@pytest.fixture
def held(tiny_model: Path) -> Iterator[HeldEngine]:
    engine = HeldEngine(tiny_model)
    yield engine
    engine.go_on.set()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def posted(address: str, content: bytes, **options: object) -> "Posted":
    return Posted(address, content, options)


class Posted(threading.Thread):
    """A request under way in a thread of its own."""

    def __init__(self, address: str, content: bytes, options: dict) -> None:
        super().__init__()
        self.address, self.content, self.options = address, content, options
        self.start()

    def run(self) -> None:
        self.answer = httpx.post(
            f"{self.address}/v1/deblur", content=self.content, timeout=60, **self.options
        )

    def result(self) -> httpx.Response:
        self.join(60)
        return self.answer


def test_beyond_the_bound_on_megapixels_one_is_told_when_to_come_again(
    held: HeldEngine, photograph: np.ndarray
) -> None:
    content = encoded(photograph)
    with serving(create_app(held, LIMITS, queue_megapixels=0.1)) as address:
        held.hold()
        first = posted(address, content)
        assert held.begun.acquire(timeout=20)
        refused = httpx.post(f"{address}/v1/deblur", content=content)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "0.1 megapixels are being worked on" in refused.json()["detail"]
        held.go_on.set()
        assert first.result().status_code == 200
        assert httpx.post(f"{address}/v1/deblur", content=content).status_code == 200


def test_what_is_not_ready_by_the_deadline_is_504_and_frees_its_tiles(
    held: HeldEngine, photograph: np.ndarray
) -> None:
    app = create_app(held, LIMITS)
    with serving(app) as address:
        held.hold()
        # On a machine that is busy while it warms up, it would be refused beforehand.
        app.state.service._model.scheduler.tile_seconds = 0.001
        waiting = posted(address, encoded(photograph), params={"deadline": 1})
        assert held.begun.acquire(timeout=20)
        answer = waiting.result()
        assert answer.status_code == 504
        assert "was not ready within 1 s" in answer.json()["detail"]
        until(lambda: app.state.service.idle)
        held.go_on.set()
        until(lambda: app.state.service._model.scheduler.tiles_left == 0)
        assert not held.begun.acquire(timeout=0.2)  # none but the tile that was under way


def test_a_deadline_that_cannot_be_kept_is_refused_at_once(
    held: HeldEngine, photograph: np.ndarray
) -> None:
    async def ask(service: Service) -> None:
        with pytest.raises(DeadlineError, match=r"take about \d+ s here, the deadline is in 1 s"):
            await service.deblur(encoded(photograph), Wanted(), deadline=1)

    service = Service(held, LIMITS)
    service._model.scheduler.tile_seconds = 100.0
    asyncio.run(ask(service))
    service.close()


def test_a_client_that_leaves_frees_its_tiles_at_once(
    held: HeldEngine, photograph: np.ndarray
) -> None:
    app, content = create_app(held, LIMITS), encoded(photograph)
    with serving(app) as address:
        held.hold()
        where = urlsplit(address)
        assert where.hostname and where.port
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(
                f"POST /v1/deblur HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
                .encode() + content
            )  # fmt: skip
            assert held.begun.acquire(timeout=20)
        until(lambda: app.state.service.idle)
        held.go_on.set()
        until(lambda: app.state.service._model.scheduler.tiles_left == 0)
        assert not held.begun.acquire(timeout=0.2)
        until(lambda: 'status="499"' in httpx.get(f"{address}/metrics").text)


def test_a_body_that_stops_coming_is_408(held: HeldEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SILENCE", 0.2)
    app = create_app(held, LIMITS)
    with serving(app) as address:
        where = urlsplit(address)
        assert where.hostname and where.port
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.settimeout(20)
            connection.sendall(
                b"POST /v1/deblur HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + bytes(10)
            )
            assert b" 408 " in connection.recv(200)
        until(lambda: app.state.service.bodies.held == 0)


def test_bodies_held_in_memory_are_bounded(held: HeldEngine) -> None:
    app = create_app(held, LIMITS)
    with TestClient(app) as client:
        assert app.state.service.bodies.take(4 * 2**20)
        answer = client.post("/v1/deblur", content=bytes(1000))
        assert answer.status_code == 429
        assert "retry-after" in answer.headers


def test_while_it_ends_the_server_finishes_and_takes_on_nothing(
    held: HeldEngine, photograph: np.ndarray
) -> None:
    app = create_app(held, LIMITS)
    with serving(app) as address:
        held.hold()
        under_way = posted(address, encoded(photograph))
        assert held.begun.acquire(timeout=20)
        app.state.service.draining = True
        assert httpx.get(f"{address}/readyz").status_code == 503
        assert httpx.get(f"{address}/healthz").status_code == 200
        refused = httpx.post(f"{address}/v1/deblur", content=encoded(photograph))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        held.go_on.set()
        assert decoded(under_way.result().content).shape == photograph.shape


def test_another_model_takes_over_without_a_failed_request(
    held: HeldEngine, tiny_model: Path, photograph: np.ndarray
) -> None:
    next_one = Engine(tiny_model, threads=1, setting=Setting(tile=128, overlap=32))

    async def body() -> None:
        service = Service(held, LIMITS)
        service.start()
        held.hold()
        under_way = asyncio.create_task(service.deblur(encoded(photograph)))
        assert await asyncio.to_thread(held.begun.acquire, timeout=20)
        replacing = asyncio.create_task(service.replace(next_one))
        while service.engine is not next_one:
            await asyncio.sleep(0.01)
        # Small enough for the memory that is kept for small ones.
        after = await service.deblur(encoded(photograph[:90, :130]))
        assert after.headers["X-Deblur-Plan"] == "tile=128; overlap=32"
        assert not replacing.done()  # the one before has still something to do
        held.go_on.set()
        before = await under_way
        assert before.headers["X-Deblur-Plan"] != after.headers["X-Deblur-Plan"]
        await replacing
        assert b'tile="128"' in service.telemetry.text()
        service.close()

    asyncio.run(asyncio.wait_for(body(), 60))


def test_progress_is_told_by_tiles(tiny_model: Path, photograph: np.ndarray) -> None:
    said: list[tuple[int, int]] = []

    async def body() -> None:
        service = Service(Engine(tiny_model, threads=1), LIMITS)
        answer = await service.deblur(
            encoded(photograph), on_tiles=lambda done, total: said.append((done, total))
        )
        await asyncio.sleep(0)
        assert said == [(n, 24) for n in range(1, 25)]
        assert answer.headers["X-Deblur-Tiles"] == "24"
        service.close()

    asyncio.run(asyncio.wait_for(body(), 60))


def test_what_takes_too_much_memory_to_write_is_refused_from_the_header(
    tiny_model: Path, photograph: np.ndarray
) -> None:
    app = create_app(Engine(tiny_model, threads=1), LIMITS)  # 0.1 megapixels, a fifth in AVIF
    with TestClient(app) as client:
        whole = client.post(
            "/v1/deblur", content=encoded(photograph), headers={"accept": "image/avif"}
        )
        assert whole.status_code == 413
        assert "for an answer in AVIF, of which 0.02 can be written" in whole.json()["detail"]
        part = client.post(
            "/v1/deblur", content=encoded(photograph[:99, :99]), headers={"accept": "image/avif"}
        )
        assert (part.status_code, part.headers["content-type"]) == (200, "image/avif")
