"""Stage 3: train, or go on training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.prepare import PreparedData
from deblur.progress import SILENT, Progress
from deblur.training.config import make_config


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
    report: str | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train a recipe on prepared data in the folder ``out``, tracked by MLflow.

    The same call on the same folder goes on from its last checkpoint and in the same MLflow run.
    The validation report in the folder ``report`` is kept there beside the curves.

    Raises:
        ConfigError: unknown recipe or field, or a bad value.
        CheckpointError: ``out`` belongs to another configuration or data set.
    """
    from deblur.training.tracked import train_tracked

    config = make_config(recipe, dict(overrides or {}))
    documents = [Path(report) / name for name in ("report.html", "report.json")] if report else []
    summary, run_id = train_tracked(config, recipe, Path(data.path), Path(out), progress, documents)
    return TrainResult(
        checkpoint=str(summary.best),
        run_id=run_id,
        epochs=summary.epochs,
        psnr=summary.psnr,
        blurred_psnr=summary.blurred_psnr,
        stopped_early=summary.stopped_early,
    )
