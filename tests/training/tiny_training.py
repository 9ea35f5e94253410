"""A training as a program, for tests that kill it, signal it or start several of it:

    python -m tests.training.tiny_training DATA OUT '{"num_epochs": 3}' [STEP SIGNAL]

It appends what it reports to ``OUT/points.jsonl``. At the STEP it sends itself the SIGNAL.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deblur.cpus import sleep_when_idle
from deblur.errors import StoppedError
from deblur.training.config import make_config
from deblur.training.train import train
from deblur.training.world import joined_world
from tests.conftest import TINY


class Notebook:
    """A tracker that writes lines, and may ask its own process to stop."""

    def __init__(self, out: Path, step: int = 0, signum: int = 0) -> None:
        self.file = out / "points.jsonl"
        self.step = step
        self.signum = signum

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if step == self.step and "loss" in values:
            os.kill(os.getpid(), self.signum)

    def picture(self, image: object, name: str, step: int | None = None) -> None:
        pass


def main(data: str, out: str, settings: str, step: str = "0", signame: str = "SIGTERM") -> int:
    config = make_config("seed", {**TINY, "log_every": 1, **json.loads(settings)})
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tracker = Notebook(folder, int(step), getattr(signal, signame))
    sleep_when_idle()
    try:
        with joined_world() as world:
            train(config, Path(data), folder, tracker=tracker, world=world)
    except StoppedError as stopped:
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
