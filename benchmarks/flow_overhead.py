"""Seconds that the flow train-deblur takes beyond its stages: the same tiny training both ways.

Each way runs in processes of its own, with folders and an MLflow store of its own, in turns; the
flow's Prefect server is started before and not counted. The best of each counts.

python benchmarks/flow_overhead.py
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, lettering, masonry
from deblur.local.processes import HOST, free_port
from deblur.local.services import Services

OVERRIDES = {
    "base_ch": 8, "patch_size": 64, "batch_size": 4, "num_epochs": 2, "crops_per_image": 2,
    "learning_rate": 1e-3, "tile": 64, "overlap": 16, "precision": "fp32", "patience": 0,
}  # fmt: skip

FLOW = """
import json, sys
from pipelines.train_deblur import train_deblur
trained = train_deblur(**json.loads(sys.argv[1]))
print(trained.registration.version)
"""
STAGES = """
import json, sys
from pathlib import Path
from components import evaluate, export, prepare, promote, register, train, validate
from deblur.cpus import sleep_when_idle
sleep_when_idle()
given = json.loads(sys.argv[1])
runs, overrides = Path(given["runs_dir"]), given["overrides"]
report = validate.require_usable(
    validate.validate(given["data_root"], str(runs / "validation"), "blur", overrides["patch_size"])
)
data = prepare.prepare(given["data_root"], str(runs / "prepared"))
training = train.train(data, str(runs / given["run_name"]), "seed", overrides, report.report)
evaluation = evaluate.evaluate(training, data)
exported = export.export(training, evaluation, data)
registration = register.register(training, evaluation, exported, data)
promote.promote(registration, data)
print(registration.version)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each way")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pairs(folder / "pairs")
        port = free_port(0)
        env = {
            "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_URL": f"http://{HOST}:{port}/api", "DO_NOT_TRACK": "true",
        }  # fmt: skip
        command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
        seconds: dict[str, list[float]] = {"flow": [], "stages": []}
        with Services(folder / "logs", env) as services:
            services.start("prefect", command, port, "/api/health")
            for _ in range(args.rounds):
                seconds["flow"].append(run(FLOW, folder, env))
                seconds["stages"].append(run(STAGES, folder, env))
    flow, stages = min(seconds["flow"]), min(seconds["stages"])
    print(json.dumps({
        "flow_seconds": round(flow, 1), "stages_seconds": round(stages, 1),
        "overhead_seconds": round(flow - stages, 1), "rounds": args.rounds,
        "cpus": os.cpu_count(),
    }))  # fmt: skip


def run(program: str, folder: Path, env: dict[str, str]) -> float:
    """Seconds from the start of a process to its end, in an empty folder."""
    place = folder / "work"
    place.mkdir()
    values = {
        "data_root": str(folder / "pairs"), "overrides": OVERRIDES, "run_name": "tiny",
        "runs_dir": str(place / "runs"),
    }  # fmt: skip
    store = f"sqlite:///{(place / 'mlflow.db').as_posix()}"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(values)], cwd=place, text=True,
        env={**os.environ, **env, "MLFLOW_TRACKING_URI": store}, capture_output=True,
    )  # fmt: skip
    taken = time.perf_counter() - started
    if done.returncode or done.stdout.split()[-1:] != ["1"]:
        sys.exit(f"{done.stdout}\n{done.stderr}")
    # Results that were kept, too: the next run is to compute all of it again.
    shutil.rmtree(place)
    shutil.rmtree(folder / "prefect" / "storage", ignore_errors=True)
    return taken


def make_pairs(root: Path) -> None:
    """Six pairs of 160x120 pixels in the layout of GOPRO_Large."""
    for number, (split, draws) in enumerate(
        {"train": (discs, masonry), "val": (lettering,), "test": (lettering,)}.items()
    ):
        for scene, draw in enumerate(draws):
            drawn = draw(generator(number, Stream.SCENE, scene)).resize((160, 120))
            for frame in range(2 if split == "train" else 1):
                path = random_camera_path(generator(number, Stream.BLUR, scene, frame), 6.0, 0.1)
                blurred, sharp = motion_blur(np.asarray(drawn), path)
                for kind, pixels in (("blur", np.rint(blurred.clip(0, 255))), ("sharp", sharp)):
                    folder = root / split / f"{draw.__name__}-{split}" / kind
                    folder.mkdir(parents=True, exist_ok=True)
                    image = Image.fromarray(pixels.astype(np.uint8))
                    image.save(folder / f"{frame + 1:06d}.png")


if __name__ == "__main__":
    main()
