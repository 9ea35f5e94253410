"""A server that is killed while jobs run loses none of them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.conftest import encoded
from tests.serving.jobs_server import LIMITS

ROOT = Path(__file__).parents[2]
JOBS = ("a", "b", "c", "d")


@contextmanager
def server(model: Path, folder: Path, seconds_a_tile: float) -> Iterator[httpx.Client]:
    """A server in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "tests.serving.jobs_server", str(model), str(folder)]
    process = subprocess.Popen(
        [*command, str(seconds_a_tile)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        port = int(process.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 120
            while not started(client):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)
            yield client
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def started(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def states(client: httpx.Client) -> dict[str, str]:
    return {id: client.get(f"/v1/jobs/{id}").json()["state"] for id in JOBS}


def wait_for_tiles(client: httpx.Client, id: str, tiles: int) -> None:
    deadline = time.monotonic() + 60
    while client.get(f"/v1/jobs/{id}").json()["tiles"]["done"] < tiles:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_jobs_that_were_killed_come_out_as_if_nothing_had_been(
    tiny_model: Path, tmp_path: Path, photograph: np.ndarray
) -> None:
    assert photograph.shape[0] * photograph.shape[1] <= 1e6 * LIMITS.megapixels
    bodies = {id: encoded(np.roll(photograph, 40 * n, axis=1)) for n, id in enumerate(JOBS)}
    with server(tiny_model, tmp_path, 0.1) as client:
        for id, body in bodies.items():
            answer = client.put(f"/v1/jobs/{id}", content=body, params={"metadata": "strip"})
            assert answer.status_code == 201
        wait_for_tiles(client, "a", 2)
        assert "queued" in states(client).values()

    with server(tiny_model, tmp_path, 0.05) as client:
        assert set(states(client).values()) <= {"queued", "running"}
        again = client.put("/v1/jobs/b", content=bodies["b"], params={"metadata": "strip"})
        assert again.status_code == 200
        wait_for_tiles(client, "a", 24)
        while states(client)["a"] != "done":
            time.sleep(0.02)
        first = client.get("/v1/jobs/a/result").content
        wait_for_tiles(client, "b", 1)

    with server(tiny_model, tmp_path, 0.0) as client:
        deadline = time.monotonic() + 60
        while set(states(client).values()) != {"done"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/v1/jobs/a/result").content == first
        for id, body in bodies.items():
            at_once = client.post("/v1/deblur", content=body, params={"metadata": "strip"})
            result = client.get(f"/v1/jobs/{id}/result")
            assert result.content == at_once.content
            assert result.headers["x-deblur-model"] == at_once.headers["x-deblur-model"]
