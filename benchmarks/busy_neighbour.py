"""Training steps a second beside a busy process, with waiting threads that spin or sleep.

python benchmarks/busy_neighbour.py
"""

import argparse
import json
import os
import subprocess
import sys

STEPS = """
import sys, time, torch
from deblur.models import DeblurUNet
model = DeblurUNet(base_ch=8)
batch = torch.rand(4, 3, 128, 128)
def step():
    model.zero_grad()
    (model(batch) - 0.5).abs().mean().backward()
step()
started, done = time.perf_counter(), 0
while time.perf_counter() - started < float(sys.argv[1]):
    step()
    done += 1
print(done / (time.perf_counter() - started))
"""
SLEEP = {"GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
NEIGHBOUR = "while True: sum(range(1000))"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each of four runs")
    args = parser.parse_args()
    figures = {
        f"{waiting}_{'beside_a_neighbour' if busy else 'alone'}": steps_a_second(
            args.seconds, SLEEP if waiting == "sleep" else {}, busy
        )
        for waiting in ("spin", "sleep")
        for busy in (False, True)
    }
    speed_up = figures["sleep_beside_a_neighbour"] / figures["spin_beside_a_neighbour"]
    print(json.dumps({
        "cpus": os.cpu_count(), "steps_a_second": figures,
        "sleep_over_spin_beside_a_neighbour": round(speed_up, 2),
        "sleep_over_spin_alone": round(figures["sleep_alone"] / figures["spin_alone"], 2),
    }))  # fmt: skip


def steps_a_second(seconds: float, env: dict[str, str], busy: bool) -> float:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "KMP_", "OMP_"))}
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if busy else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS, str(seconds)],
            env={**clean, **env}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return round(float(done.stdout), 2)


if __name__ == "__main__":
    main()
