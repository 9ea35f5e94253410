"""``make demo``: the whole path on this machine, from nothing to a deblurred picture over HTTP."""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.register import Registration
from deblur.data.listing import find_pairs
from deblur.data.pairs import FolderPairs
from deblur.data.synthesis.sample import build_sample
from deblur.errors import DeblurError
from deblur.local.parts import local_environment, mlflow_server, picture_server, prefect_server
from deblur.local.processes import free_port
from deblur.local.services import Service, Services
from deblur.metrics import quality
from deblur.progress import for_terminal
from deblur.settings import parse_overrides
from deblur.sheet import SheetRow, before_after_sheet
from deblur.training.config import make_config

DATA = Path("data/sample")
RUNS = Path("runs")
SHEET = RUNS / "demo" / "before_after.png"
REPORT = RUNS / "validation" / "sample-blur" / "report.html"
RECIPE = "demo"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave the servers running until Ctrl-C"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="a training setting, as num_epochs=1 for a quick look; repeatable",
    )  # fmt: skip
    args = parser.parse_args()
    console = Console()
    try:
        run_demo(console, args.keep, parse_overrides(args.settings))
    except DeblurError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        return 130
    return 0


def run_demo(console: Console, keep: bool, overrides: dict[str, str]) -> None:
    """Run every stage, and say what happens."""
    config = make_config(RECIPE, overrides)
    started = time.monotonic()
    here = Path.cwd()
    store = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    env = {**local_environment(here), "MLFLOW_TRACKING_URI": store}

    _stage(console, 1, "sample data: simulated blur on free photographs")
    sample = build_sample(DATA, progress=for_terminal())
    console.print(
        f"{'kept' if sample.reused else 'made'} {DATA}: {sample.train} training, {sample.val} "
        f"validation and {sample.test} test pairs, blurred input at {sample.blurred_psnr:.2f} dB"
    )
    with Services(RUNS / "demo" / "logs", env) as services:
        _stage(console, 2, "Prefect server and MLflow")
        prefect = services.start_part(prefect_server(free_port(4200)))
        mlflow = services.start_part(mlflow_server(free_port(5000), store, here))
        console.print(f"Prefect [link]{prefect.url}[/link]   MLflow [link]{mlflow.url}[/link]")

        _stage(
            console, 3, "flow train-deblur: validate, prepare, train, evaluate, export, register"
        )
        parameters = {
            "data_root": str(DATA), "recipe": RECIPE, "overrides": overrides, "runs_dir": str(RUNS),
            # By configuration, so that the same demo goes on and a changed one starts anew.
            "run_name": f"demo-{config.digest()[:8]}",
        }  # fmt: skip
        registration = _run_flow(
            parameters, {**os.environ, **env, "PREFECT_API_URL": f"{prefect.url}/api"}
        )
        console.print(f"registered {registration.uri}, version {registration.version}")

        _stage(console, 4, "CPU server with the registered model")
        server = services.start_part(picture_server(free_port(8000), registration.uri))

        _stage(console, 5, "held-out pictures through the server")
        gain = _deblur_test_pictures(console, server)
        minutes = (time.monotonic() - started) / 60
        console.print(
            f"\n[bold]PSNR gain {gain:+.2f} dB[/] on held-out scenes (simulated blur), measured on "
            f"what the server answered, after {minutes:.1f} minutes\n"
            f"before/after  {SHEET}\ndata report   {REPORT}\n"
            f"Prefect       {prefect.url}\nMLflow        {mlflow.url}\n"
            f"server        {server.url}/docs"
        )
        if keep:
            console.print(
                f"\nTry  curl -F image=@photo.jpg {server.url}/v1/deblur -o sharp.jpg\n"
                "The servers run until Ctrl-C."
            )
            _wait_for_interrupt()
        else:
            console.print("\nThe servers stop now;  make demo KEEP=1  leaves them running.")


def _run_flow(parameters: dict[str, Any], env: dict[str, str]) -> Registration:
    """The flow in a process of its own, with its progress on this terminal.

    Prefect sends its last log lines when a process ends, so that has to happen before the server
    stops; otherwise it tries for a minute.
    """
    command = [sys.executable, "-m", "pipelines.train_deblur", json.dumps(parameters)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        said, _ = process.communicate()
    except KeyboardInterrupt:
        process.wait(60)  # Ctrl-C reached it too; it marks its runs and ends
        raise
    if process.returncode:
        raise DeblurError("the flow train-deblur failed: its last lines, above, say why")
    return Registration(**json.loads(said.splitlines()[-1]))


def _deblur_test_pictures(console: Console, server: Service) -> float:
    """Send every test picture to the server; print the scores, draw the sheet, return the gain."""
    found = find_pairs(DATA, "test")
    pairs = FolderPairs(found)
    table = Table("picture", "blurred dB", "deblurred dB", "gain dB", "seconds")
    rows: dict[str, SheetRow] = {}
    gains = []
    with httpx.Client(base_url=server.url, timeout=120.0) as client:
        for index, pair in enumerate(found):
            started = time.monotonic()
            answer = client.post("/v1/deblur", content=pair.blur.read_bytes())
            seconds = time.monotonic() - started
            answer.raise_for_status()
            restored = np.asarray(Image.open(io.BytesIO(answer.content)))
            blurred, sharp = pairs.read(index)
            before, after = quality(blurred, sharp), quality(restored, sharp)
            gains.append(after.psnr - before.psnr)
            table.add_row(
                f"{pair.scene}/{pair.name}", f"{before.psnr:.2f}", f"{after.psnr:.2f}",
                f"{gains[-1]:+.2f}", f"{seconds:.2f}",
            )  # fmt: skip
            rows.setdefault(pair.scene, SheetRow(pair.scene, blurred, restored, sharp))
    console.print(table)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    footer = "simulated blur; answers of the CPU server; figures of whole pictures"
    before_after_sheet(list(rows.values()), footer).save(SHEET)
    return float(np.mean(gains))


def _stage(console: Console, number: int, what: str) -> None:
    console.print(f"\n[bold cyan]{number}/5[/] [bold]{what}[/]")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
