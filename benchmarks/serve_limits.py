"""What one huge picture does to the server: memory, and how long a small picture waits beside it.

Starts `deblur serve` as a process of its own, times it from its start until it is ready, and posts
a picture of --size x --size a few times while nothing else is going on. Then a picture of
--megapixels goes in as a job, and the small one is posted again and again while its tiles are
computed. The server's highest resident memory is asked of the system at the end.

python benchmarks/serve_limits.py --model model.onnx
"""

import argparse
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from deblur.serving.server import listen

READY_SECONDS = 120
FEWEST = 5  # timed posts of the small picture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="ONNX file; default: a random network of --base-ch")
    parser.add_argument("--base-ch", type=int, default=16, help="width of the random network")
    parser.add_argument("--megapixels", type=float, default=100, help="of the huge picture")
    parser.add_argument("--size", type=int, default=512, help="side of the small picture in pixels")
    parser.add_argument("--minutes", type=float, default=15, help="the huge picture may take")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_model(Path(folder), args.base_ch)
        print(json.dumps(measure(model, args, Path(folder))))


def measure(model: str, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    with listen("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "deblur", "serve", "--model", model, "--port", str(port),
        "--set", f"jobs_folder={folder / 'jobs'}", "--set", f"max_megapixels={args.megapixels}",
    ]  # fmt: skip
    began = time.perf_counter()
    with subprocess.Popen(command) as server:
        try:
            until_ready(address, server)
            ready = time.perf_counter() - began
            print(f"ready after {ready:.1f} s")
            process = psutil.Process(server.pid)
            with httpx.Client(base_url=address, timeout=60 * args.minutes) as client:
                return {"ready_seconds": round(ready, 2), **load(client, process, args)}
        finally:
            server.terminate()
            server.wait(60)


def load(
    client: httpx.Client, process: psutil.Process, args: argparse.Namespace
) -> dict[str, object]:
    small = jpeg(args.size, args.size)
    post(client, small)
    idle = [post(client, small) for _ in range(2 * FEWEST)]
    print(f"{args.size}x{args.size}, idle: {statistics.median(idle):.2f} s")
    width = math.isqrt(int(args.megapixels * 1e6 * 4 / 3))
    huge = jpeg(width, int(args.megapixels * 1e6 / width))
    print(f"posting {width}x{int(args.megapixels * 1e6 / width)} in {len(huge) / 2**20:.0f} MiB")
    at_rest = process.memory_info().rss
    began = time.perf_counter()
    client.put("/v1/jobs/huge", content=huge).raise_for_status()
    beside, said = [], set()
    while (job := client.get("/v1/jobs/huge").json())["state"] in ("queued", "running"):
        said.add(job["tiles"]["done"])
        if job["tiles"]["done"]:
            beside.append(post(client, small))
            if len(beside) % 10 == 0:
                print(f"{job['tiles']['done']} of {job['tiles']['total']} tiles", flush=True)
        else:
            time.sleep(0.2)
        if time.perf_counter() - began > 60 * args.minutes:
            raise SystemExit(f"the huge picture was not through in {args.minutes} minutes: {job}")
    if job["state"] != "done" or len(beside) < FEWEST:
        raise SystemExit(f"{len(beside)} small pictures beside it, and it ended as {job}")
    seconds = time.perf_counter() - began
    answer = client.get("/v1/jobs/huge/result")
    opened = Image.open(io.BytesIO(answer.content))
    if opened.size != (width, int(args.megapixels * 1e6 / width)):
        raise SystemExit(f"the answer has {opened.size}")
    return {
        "megapixels": args.megapixels,
        "huge_seconds": round(seconds, 1),
        "progress_steps_seen": len(said),
        "peak_rss_gb": round(peak_of(process) / 1e9, 3),
        "rss_before_gb": round(at_rest / 1e9, 3),
        "small_idle_seconds": round(statistics.median(idle), 3),
        "small_beside_seconds": round(statistics.median(beside), 3),
        "small_worst_seconds": round(max(beside), 3),
        "small_posts_beside": len(beside),
        "small_latency_ratio": round(statistics.median(beside) / statistics.median(idle), 2),
    }


def post(client: httpx.Client, content: bytes) -> float:
    """Seconds of one picture."""
    began = time.perf_counter()
    client.post("/v1/deblur", content=content).raise_for_status()
    return time.perf_counter() - began


def jpeg(width: int, height: int) -> bytes:
    """A picture with detail everywhere, without holding it in several forms at once."""
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(patch).resize((1024, 1024), Image.Resampling.BICUBIC))
    rows, columns = -(-height // 1024), -(-width // 1024)
    out = io.BytesIO()
    Image.fromarray(np.tile(smooth, (rows, columns, 1))[:height, :width]).save(
        out, "JPEG", quality=90
    )
    return out.getvalue()


def until_ready(address: str, server: subprocess.Popen) -> None:
    for _ in range(20 * READY_SECONDS):
        try:
            if httpx.get(f"{address}/readyz", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        time.sleep(0.05)
    raise SystemExit(f"the server was not ready within {READY_SECONDS} s")


def peak_of(process: psutil.Process) -> int:
    """Highest resident memory of a process so far, in bytes."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return process.memory_info().peak_wset  # Windows


def random_model(folder: Path, base_ch: int) -> str:
    from serve_speed import network_of  # this folder comes first in the path of its scripts

    from deblur.export import export_network

    return str(export_network(*network_of(None, base_ch), folder / "model.onnx").path)


if __name__ == "__main__":
    main()
