"""A server with jobs, as a process that can be killed.

``python -m tests.serving.jobs_server MODEL FOLDER SECONDS`` prints its port; each tile takes
``SECONDS`` longer.
"""

import sys
import time
from pathlib import Path

import numpy as np
import uvicorn

from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import JobSettings
from deblur.serving.server import listen

LIMITS = Limits(megabytes=1, megapixels=0.1)


class SlowEngine(Engine):
    seconds = 0.0

    def run_tile(self, tiles: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        return super().run_tile(tiles)


def main(model: str, folder: str, seconds: str) -> None:
    engine = SlowEngine(Path(model), threads=1)
    engine.seconds = float(seconds)
    app = create_app(engine, LIMITS, jobs=JobSettings(folder=Path(folder)))
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
