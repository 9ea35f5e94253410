"""The Prefect flow ``train-deblur``: from pairs of pictures to a registered model.

    python -m pipelines.train_deblur '{"data_root": "data/sample", "recipe": "demo"}'

runs it in this process and prints what it registered, as JSON.
"""

import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run
from pydantic import Field

import components.evaluate
import components.export
import components.prepare
import components.register
import components.train
import components.validate
from components.register import Registration
from deblur.cpus import sleep_when_idle
from deblur.data.layout import Averaging
from deblur.data.listing import name_of
from deblur.errors import DeblurError, StoppedError
from deblur.progress import for_terminal
from deblur.training.config import make_config

#: Emitted when prepared data changes: for automations that wait for it.
DATA_VERSION_EVENT = "deblur.data.new-version"


@task
def validate(
    data_root: str,
    out: str,
    subset: Averaging,
    crop: int,
    checks: dict[str, Any],
    reference: str | None,
) -> components.validate.DataReport:
    report = components.validate.validate(
        data_root, out, subset, crop, checks, reference, for_terminal()
    )
    create_markdown_artifact(
        report.summary, key="data-validation", description=f"{data_root}, {subset}"
    )
    return components.validate.require_usable(report)


@task
def prepare(data_root: str, out: str, subset: Averaging) -> components.prepare.PreparedData:
    data = components.prepare.prepare(data_root, out, subset, for_terminal())
    if data.is_new:
        emit_event(
            event=DATA_VERSION_EVENT,
            resource={"prefect.resource.id": f"deblur.data.{Path(out).name}"},
            payload={"digest": data.digest, "previous": data.previous, "data_root": data_root},
        )
    return data


@task
def train(
    data: components.prepare.PreparedData,
    out: str,
    recipe: str,
    overrides: dict[str, Any],
    report: str,
) -> components.train.TrainResult:
    try:
        return components.train.train(data, out, recipe, overrides, report, for_terminal())
    except StoppedError as stopped:
        # Training has answered the signal with a checkpoint; now Prefect is to hear it as well.
        signal.raise_signal(stopped.signum)
        raise


@task
def evaluate(
    training: components.train.TrainResult, data: components.prepare.PreparedData
) -> components.evaluate.EvalResult:
    return components.evaluate.evaluate(training, data, progress=for_terminal())


@task
def export(
    training: components.train.TrainResult,
    evaluation: components.evaluate.EvalResult,
    data: components.prepare.PreparedData,
) -> components.export.ExportResult:
    return components.export.export(training, evaluation, data)


@task
def register(
    training: components.train.TrainResult,
    evaluation: components.evaluate.EvalResult,
    exported: components.export.ExportResult,
    data: components.prepare.PreparedData,
) -> Registration:
    return components.register.register(training, evaluation, exported, data)


@flow(name="train-deblur")
def train_deblur(
    data_root: Annotated[
        str, Field(description="data set: a folder, a .toml layout or a .csv; local or s3://...")
    ] = "data/sample",
    recipe: Annotated[str, Field(description="seed, gopro or demo")] = "seed",
    overrides: Annotated[
        dict[str, Any] | None, Field(description="training settings that differ from the recipe")
    ] = None,
    runs_dir: Annotated[str, Field(description="folder of the training runs")] = "runs",
    run_name: Annotated[
        str | None,
        Field(description="name of an earlier run to go on with; by default this flow run's"),
    ] = None,
    checks: Annotated[
        dict[str, Any] | None,
        Field(description="rules of validation that differ, as misaligned.threshold: 3"),
    ] = None,
    reference: Annotated[
        str | None, Field(description="validation report of an earlier version, to see drift")
    ] = None,
) -> Registration:
    """Validate, prepare, train, evaluate, export and register.

    Relative paths are below the folder that the flow runs in. A flow run that is retried, or
    another one with the same ``run_name``, goes on from the last checkpoint.
    """
    sleep_when_idle()
    logging.getLogger("deblur").setLevel(logging.INFO)  # for the flow run's log, see prefect.toml
    config = make_config(recipe, overrides)
    out = Path(runs_dir) / (run_name or str(flow_run.name))
    name = name_of(data_root, config.subset)
    report_dir, prepared_dir = (
        str(Path(runs_dir) / kind / name) for kind in ("validation", "prepared")
    )

    # Each stage waits for the one before: what a later one is given, the earlier one returned.
    report = validate(
        data_root, report_dir, config.subset, config.patch_size, checks or {}, reference
    )
    data = prepare(report.data_root, prepared_dir, config.subset)
    training = train(data, str(out), recipe, overrides or {}, report.report)
    evaluation = evaluate(training, data)
    exported = export(training, evaluation, data)
    return register(training, evaluation, exported, data)


def main() -> int:
    try:
        registration = train_deblur(**json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    except DeblurError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(registration)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
