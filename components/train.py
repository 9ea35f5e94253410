"""Stage 3: train, or go on training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.prepare import PreparedData
from deblur.progress import SILENT, Progress
from deblur.tracking import environment, run_exists, tracked_run
from deblur.training.config import TrainConfig, make_config

TRACKING_FILE = "mlflow_run.json"


@dataclass(frozen=True)
class TrainResult:
    """A finished training. PSNR in dB on the validation pictures; ``run_id`` names it in MLflow."""

    checkpoint: str
    run_id: str
    epochs: int
    psnr: float
    blurred_psnr: float
    stopped_early: bool


def train(
    data: PreparedData,
    out: str,
    recipe: str = "seed",
    overrides: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train a recipe on prepared data in the folder ``out``, tracked by MLflow.

    The same call on the same folder goes on from its last checkpoint and in the same MLflow run.

    Raises:
        ConfigError: unknown recipe or field, or a bad value.
        CheckpointError: ``out`` belongs to another configuration or data set.
    """
    from deblur.training.loop import train as training_loop

    config = make_config(recipe, dict(overrides or {}))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tracked_run(folder.name, _known_run(folder)) as run:
        (folder / TRACKING_FILE).write_text(json.dumps({"run_id": run.run_id}), encoding="utf-8")
        run.params(_params(config, recipe))
        run.tags({**environment(), "data.digest": data.digest, "data.kind": data.kind})
        run.tags({"config.digest": config.digest()})
        summary = training_loop(config, Path(data.path), folder, tracker=run, progress=progress)
    return TrainResult(
        checkpoint=str(summary.best),
        run_id=run.run_id,
        epochs=summary.epochs,
        psnr=summary.psnr,
        blurred_psnr=summary.blurred_psnr,
        stopped_early=summary.stopped_early,
    )


def _params(config: TrainConfig, recipe: str) -> dict[str, Any]:
    return {**config.model_dump(mode="json"), "recipe": recipe}


def _known_run(folder: Path) -> str | None:
    """The MLflow run of an earlier start in this folder, if the current store knows it."""
    try:
        run_id = json.loads((folder / TRACKING_FILE).read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError):
        return None
    return run_id if run_exists(run_id) else None
