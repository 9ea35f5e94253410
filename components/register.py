"""Stage 6: a new version of ``deblur-unet`` in the MLflow registry."""

from dataclasses import dataclass
from pathlib import Path

from components.evaluate import EvalResult
from components.export import ExportResult
from components.prepare import PreparedData
from components.train import TrainResult
from deblur.registry import CANDIDATE, register_model
from deblur.tracking import tracked_run


@dataclass(frozen=True)
class Registration:
    """The registered version; ``uri`` is what ``deblur serve`` takes."""

    name: str
    version: int
    alias: str
    uri: str
    run_id: str


def register(
    training: TrainResult, evaluation: EvalResult, exported: ExportResult, data: PreparedData
) -> Registration:
    """Register the exported file with the alias ``candidate``; the same file of a run only once."""
    tags = {
        "data.digest": data.digest,
        "data.kind": data.kind,
        **{name: f"{value:.4f}" for name, value in evaluation.metrics.items()},
    }
    with tracked_run(Path(exported.path).parent.name, training.run_id) as run:
        version = register_model(run, Path(exported.path), tags)
    return Registration(
        name=version.name,
        version=version.version,
        alias=CANDIDATE,
        uri=f"models:/{version.name}@{CANDIDATE}",
        run_id=version.run_id,
    )
