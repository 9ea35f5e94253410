"""The server under more work than it can do: what fails, what grows, what differs.

Starts `deblur serve` as a process of its own, takes from it the answer to each of a few pictures
with nothing else going on, and lets locust's clients post them again and again, as requests and as
jobs, in numbers that go up and down around what the server can do. Meanwhile the model file is
touched three times, so that the server loads it anew, and once the server is killed with SIGKILL
and started again.

Every answer of 200 is compared with the one taken before, byte for byte. A refusal is 429 with a
Retry-After, or while the server is down no connection. The server's resident memory is noted every
few seconds. It goes up and down with the clients, so what tells of growth is the lowest that it
comes to in each of their waves, one after the other.

python benchmarks/serve_load.py --model model.onnx --minutes 30
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from serve_limits import random_model, until_ready  # this folder comes first in scripts' path

from deblur.serving.server import listen

#: Sides of the pictures in pixels, and how often each is posted.
SIZES = {(96, 128): 4, (256, 256): 4, (512, 512): 3, (700, 1050): 1}
RELOADS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="ONNX file; default: a random network")
    parser.add_argument("--base-ch", type=int, default=16, help="width of the random network")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--clients", type=int, default=12, help="at the most, at once")
    parser.add_argument(
        "--queue", type=float, default=2, help="megapixels that the server takes on"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = folder / "model.onnx"
        given = args.model or Path(random_model(folder, args.base_ch))
        for file in given.parent.glob(f"{given.stem}.*"):
            if file.resolve() != (folder / f"model{file.suffix}").resolve():
                shutil.copy(file, folder / file.name.replace(given.stem, "model", 1))
        with Server(model, folder, args.queue) as server:
            print(json.dumps(run(server, args, folder)))


class Server:
    """`deblur serve`, which may be killed and started again on the same port."""

    def __init__(self, model: Path, folder: Path, queue: float) -> None:
        with listen("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        self.address, self.model = f"http://127.0.0.1:{port}", model
        self.log = folder / "server.log"
        self.command = [
            sys.executable, "-m", "deblur", "serve", "--model", str(model), "--port", str(port),
            "--set", f"jobs_folder={folder / 'jobs'}", "--set", f"queue_megapixels={queue}",
            "--set", "reload_seconds=1",
        ]  # fmt: skip
        # Of each process: when, and its resident megabytes.
        self.lives: list[list[tuple[float, float]]] = []

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(120)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log)
        until_ready(self.address, self.process)
        self.lives.append([])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def note_memory(self) -> None:
        with suppress(psutil.Error):  # between two lives
            resident = psutil.Process(self.process.pid).memory_info().rss / 1e6
            self.lives[-1].append((time.monotonic(), resident))


def run(server: Server, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    pictures = folder / "pictures"
    pictures.mkdir()
    with httpx.Client(base_url=server.address, timeout=300) as client:
        for number, size in enumerate(SIZES):
            (pictures / f"{number}.jpg").write_bytes(jpeg(*size, seed=number))
        expected = {}
        for file in sorted(pictures.glob("*.jpg")):
            answer = client.post("/v1/deblur", content=file.read_bytes()).raise_for_status()
            expected[file.name] = hashlib.sha256(answer.content).hexdigest()
    (pictures / "expected.json").write_text(json.dumps(expected))
    seconds = 60 * args.minutes
    wave = min(120.0, seconds / 6)
    clients = Path(__file__).with_name("load_clients.py")
    with disturbed(server, seconds):
        subprocess.run(
            [
                sys.executable, "-m", "locust", "-f", str(clients),
                "--headless", "--host", server.address, "--run-time", f"{seconds:.0f}s",
                "--stop-timeout", "120", "--only-summary",
            ],
            check=False,
            env={
                **os.environ, "LOAD_PICTURES": str(pictures), "LOAD_CLIENTS": str(args.clients),
                "LOAD_SECONDS": str(seconds), "LOAD_WAVE": str(wave),
                "LOAD_REPORT": str(folder / "report.json"),
                "LOAD_WEIGHTS": json.dumps(list(SIZES.values())),
            },
        )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    metrics = httpx.get(f"{server.address}/metrics").text
    reloads = [line for line in metrics.splitlines() if line.startswith("deblur_reloads_total{")]
    return {
        "minutes": args.minutes,
        "statuses": report["statuses"],
        "answers_compared": report["compared"],
        "answers_that_differ": report["differ"],
        "faults": report["faults"],
        "without_connection": report["unreachable"],
        "jobs_done": report["jobs"],
        "jobs_lost": report["lost"],
        "reloads_since_the_kill": reloads,
        "memory_highest_mb": [round(max(mb for _, mb in life)) for life in server.lives if life],
        "memory_lowest_by_wave_mb": [floors(life, wave) for life in server.lives],
        "seconds_median": report["median"],
        "seconds_slowest": report["slowest"],
    }


@contextmanager
def disturbed(server: Server, seconds: float) -> Iterator[None]:
    """Meanwhile: three reloads, a SIGKILL with a restart, and a look at the memory."""
    over = threading.Event()
    began = time.monotonic()
    todo = [(seconds * part, "reload") for part in (0.15, 0.45, 0.8)][:RELOADS]
    todo = sorted([*todo, (seconds * 0.6, "kill")])

    def disturb() -> None:
        while not over.wait(2.0):
            server.note_memory()
            if todo and time.monotonic() - began > todo[0][0]:
                what = todo.pop(0)[1]
                print(f"{time.monotonic() - began:.0f} s: {what}", flush=True)
                if what == "reload":
                    server.model.touch()
                else:
                    server.kill()
                    server.start()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def floors(life: list[tuple[float, float]], wave: float) -> list[int]:
    """The lowest memory within each whole wave of a process's life."""
    began = life[0][0] if life else 0.0
    whole = int((life[-1][0] - began) / wave + 0.1) if life else 0
    return [
        round(min(mb for at, mb in life if n * wave <= at - began < (n + 1) * wave))
        for n in range(whole)
    ]


def jpeg(height: int, width: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(
        out, "JPEG", quality=90
    )
    return out.getvalue()


if __name__ == "__main__":
    main()
