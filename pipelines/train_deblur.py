"""The Prefect flow ``train-deblur``: from pairs of pictures to a registered model.

    python -m pipelines.train_deblur '{"data_root": "data/sample", "recipe": "demo"}'

runs it in this process and prints what it registered, as JSON.
"""

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
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
from deblur.data.blur import Averaging
from deblur.errors import DeblurError
from deblur.progress import for_terminal
from deblur.training.config import make_config


@task
def validate(data_root: str, subset: Averaging, crop: int) -> components.validate.DataReport:
    return components.validate.validate(data_root, subset, crop, for_terminal())


@task
def prepare(data_root: str, out: str, subset: Averaging) -> components.prepare.PreparedData:
    return components.prepare.prepare(data_root, out, subset, for_terminal())


@task
def train(
    data: components.prepare.PreparedData, out: str, recipe: str, overrides: dict[str, Any]
) -> components.train.TrainResult:
    return components.train.train(data, out, recipe, overrides, for_terminal())


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
        str, Field(description="data set in the layout of GOPRO_Large")
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
) -> Registration:
    """Validate, prepare, train, evaluate, export and register.

    Relative paths are below the folder that the flow runs in. A flow run that is retried, or
    another one with the same ``run_name``, goes on from the last checkpoint.
    """
    sleep_when_idle()
    logging.getLogger("deblur").setLevel(logging.INFO)  # for the flow run's log, see prefect.toml
    config = make_config(recipe, overrides)
    out = Path(runs_dir) / (run_name or str(flow_run.name))
    prepared_dir = str(
        Path(runs_dir) / "prepared" / f"{Path(data_root).resolve().name}-{config.subset}"
    )

    # Each stage waits for the one before: what a later one is given, the earlier one returned.
    report = validate(data_root, config.subset, config.patch_size)
    data = prepare(report.data_root, prepared_dir, config.subset)
    training = train(data, str(out), recipe, overrides or {})
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
