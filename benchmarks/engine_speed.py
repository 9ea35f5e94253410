"""Milliseconds a tile: onnxruntime against torch, side by side, on this CPU.

python benchmarks/engine_speed.py --base-ch 32 --tile 256
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deblur.cpus import usable_cpus
from deblur.device import choose_numerics
from deblur.export import export_checkpoint
from deblur.models.inference import tiled_predictor
from deblur.serving.engine import Engine
from deblur.training.config import make_config
from deblur.training.run import TrainingRun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base-ch", type=int, default=32, help="width of the network")
    parser.add_argument("--tile", type=int, default=256, help="side of the tile in pixels")
    parser.add_argument("--rounds", type=int, default=15, help="tiles timed for each")
    args = parser.parse_args()

    threads = usable_cpus()
    torch.set_num_threads(threads)
    config = make_config("seed", {"base_ch": args.base_ch, "tile": args.tile, "overlap": 0})
    run = TrainingRun(config, "none", choose_numerics("fp32", "cpu"))
    # A zero last layer would let a clever runtime skip the rest.
    torch.nn.init.normal_(run.model.final.weight, std=0.01)
    untrained = run.state()
    model = untrained.network()
    with tempfile.TemporaryDirectory() as folder:
        exported = export_checkpoint(untrained, Path(folder) / "model.onnx", {}, "none")
        engine = Engine(exported.path, threads)
        contenders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            f"torch_{precision}": tiled_predictor(
                model,
                choose_numerics(precision, "cpu"),
                args.tile,
                0,
            )
            for precision in ("fp32", "bf16")
        }
        contenders["onnxruntime_fp32"] = engine.predict
        picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, args.tile, args.tile))
        figures = race(contenders, picture.astype(np.float32), args.rounds)
    base = figures["torch_fp32"]
    print(json.dumps({
        "base_ch": args.base_ch, "tile": args.tile, "threads": threads,
        "milliseconds": figures,
        "speed_against_torch_fp32": {name: round(base / ms, 2) for name, ms in figures.items()},
    }))  # fmt: skip


def race(
    contenders: dict[str, Callable[[np.ndarray], np.ndarray]], picture: np.ndarray, rounds: int
) -> dict[str, float]:
    """Median milliseconds of each, taken in turns so that noise of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        for name, predict in contenders.items():
            started = time.perf_counter()
            predict(picture)
            if number >= 2:  # the first rounds warm up
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


if __name__ == "__main__":
    main()
