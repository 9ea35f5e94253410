"""Stage 6: a new version of ``deblur-unet`` in the MLflow registry, with its model card."""

import json
import platform
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.evaluate import EvalResult
from components.export import ExportResult
from components.prepare import PreparedData
from components.train import TrainResult
from deblur.card import publish_card
from deblur.cpus import usable_cpus
from deblur.data.manifest import MANIFEST, Manifest, read_manifest
from deblur.data.storage import location
from deblur.errors import DeblurError
from deblur.registry import CANDIDATE, SOURCES, find_version, keep_run_files, register_model
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
    """Register the exported file with the alias ``candidate``; the same file of a run only once.

    The run keeps the manifest of the data beside it, without which the version cannot be promoted,
    and, where the data set has one, its account of where the pictures come from.
    """
    manifest = read_manifest(Path(data.path))
    checkpoint = Path(training.checkpoint)
    tags = {
        **_training_tags(checkpoint.parent),
        "data.digest": data.digest,
        "data.kind": data.kind,
        "data.pairs": json.dumps({s: len(entries.pairs) for s, entries in manifest.splits.items()}),
        **{name: f"{value:.4f}" for name, value in evaluation.metrics.items()},
    }
    with tracked_run(checkpoint.parent.name, training.run_id) as run:
        _keep_data(run.run_id, Path(data.path), manifest)
        version = register_model(run, Path(exported.path), tags)
    publish_card(find_version(version.address))
    return Registration(
        name=version.name,
        version=version.version,
        alias=CANDIDATE,
        uri=f"models:/{version.name}@{CANDIDATE}",
        run_id=version.run_id,
    )


def _keep_data(run_id: str, prepared: Path, manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        place = Path(folder)
        (place / MANIFEST).write_bytes((prepared / MANIFEST).read_bytes())
        # Most data sets have none, and the source may be out of reach by now.
        with suppress(OSError, DeblurError):
            (place / SOURCES).write_bytes((location(manifest.source) / SOURCES).read_bytes())
        keep_run_files(run_id, place, "data")


def _training_tags(folder: Path) -> dict[str, str]:
    """How long it was trained and on what."""
    import torch

    from deblur.training.folder import CheckpointFolder

    newest = CheckpointFolder(folder).newest()
    hardware = f"{usable_cpus()} CPU cores, {platform.machine()}"
    if torch.cuda.is_available():
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {hardware}"
    hours = {"training.hours": f"{newest.seconds / 3600:.3f}"} if newest is not None else {}
    return {**hours, "training.hardware": hardware}
