"""Training in an MLflow run that belongs to the folder of the training run."""

import json
from collections.abc import Sequence
from pathlib import Path

from deblur.data.prepare import describe
from deblur.progress import SILENT, Progress
from deblur.tracking import environment, run_exists, tracked_run
from deblur.training.config import TrainConfig
from deblur.training.train import TrainSummary, train
from deblur.training.world import World

RUN_FILE = "mlflow_run.json"


def train_tracked(
    config: TrainConfig,
    recipe: str,
    data: Path | str,
    out: Path,
    progress: Progress = SILENT,
    documents: Sequence[Path] = (),
    world: World = World(),
    adopt: bool = False,
) -> tuple[TrainSummary, str]:
    """Train as ``deblur.training.train.train`` does, and record it.

    The same call on the same folder goes on from its last checkpoint and in the same MLflow run.

    Args:
        config: what to train.
        recipe: what it started from, recorded beside it.
        data: a data set, prepared or not.
        out: folder of the run.
        progress: shows steps, rate and time left.
        documents: files about the data to keep with the run.
        world: the processes that train together; the first of them records.
        adopt: go on even if ``out`` holds a run of other settings or data.

    Returns:
        What the training came to, and the id of its MLflow run, empty in all but the first process.
    """
    manifest = world.of_first(describe(data, config.subset, progress) if world.writes else None)
    assert manifest is not None
    if not world.writes:
        summary = train(config, data, out, manifest=manifest, world=world, adopt=adopt)
        return summary, ""
    out.mkdir(parents=True, exist_ok=True)
    with tracked_run(out.name, _known_run(out), system_metrics=True) as run:
        (out / RUN_FILE).write_text(json.dumps({"run_id": run.run_id}), encoding="utf-8")
        run.params({**config.model_dump(mode="json"), "recipe": recipe})
        run.tags(
            {
                **environment(),
                "data.digest": manifest.digest,
                "data.kind": manifest.kind,
                "config.digest": config.digest(),
            }
        )
        for document in documents:
            run.artifact(document, "data")
        summary = train(
            config, data, out, manifest=manifest, tracker=run, progress=progress, world=world,
            adopt=adopt,
        )  # fmt: skip
    return summary, run.run_id


def _known_run(out: Path) -> str | None:
    """The MLflow run of an earlier start in this folder, if the current store knows it."""
    try:
        run_id = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError):
        return None
    return run_id if run_exists(run_id) else None
