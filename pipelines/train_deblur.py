"""The Prefect flow ``train-deblur``: from pairs of pictures to a model that may be champion.

    python -m pipelines.train_deblur '{"data_root": "data/sample", "recipe": "demo"}'

runs it in this process and prints what it registered, as JSON.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.exceptions import ParameterTypeError
from prefect.runtime import flow_run
from pydantic import Field

from components.promote import Promotion
from components.register import Registration
from deblur.data.layout import Averaging
from deblur.data.listing import name_of
from deblur.errors import DeblurError
from deblur.training.config import make_config
from pipelines import tasks
from pipelines.choices import Recipe
from pipelines.healing import begin


@dataclass(frozen=True)
class TrainedModel:
    """The registered version, and the gate's verdict on it if it was asked."""

    registration: Registration
    promotion: Promotion | None


@flow(name="train-deblur")
def train_deblur(
    data_root: str = "data/sample",
    recipe: Recipe = "seed",
    overrides: Annotated[
        dict[str, Any] | None, Field(examples=[{"num_epochs": 20, "batch_size": 4}])
    ] = None,
    subset: Averaging = "blur",
    promote: bool = True,
    runs_dir: str = "runs",
    run_name: str | None = None,
    checks: Annotated[dict[str, Any] | None, Field(examples=[{"misaligned.threshold": 3}])] = None,
    reference: str | None = None,
) -> TrainedModel:
    """Validate, prepare, train, evaluate, export, register and promote.

    Relative paths are below the folder that the flow runs in. A flow run that is retried, or
    another one with the same ``run_name``, goes on from the last checkpoint.

    Args:
        data_root: data set: a folder, a .toml layout or a .csv; local or s3://...
        recipe: seed: 100 epochs; gopro: the field's budget, for a GPU; demo: minutes on a CPU
        overrides: training settings that differ from the recipe's, see docs/training.md
        subset: blurred folder: blur, or blur_gamma where the data set has one
        promote: make the new version champion if the gate finds it better
        runs_dir: folder of runs, prepared data and reports
        run_name: name of an earlier run to go on with; by default this flow run's
        checks: rules of validation that differ, see docs/data.md
        reference: validation report of an earlier version of the data, to see drift
    """
    begin(same="run_name")
    settings = {"subset": subset, **(overrides or {})}
    config = make_config(recipe, settings)
    out = Path(runs_dir) / (run_name or str(flow_run.name))
    name = name_of(data_root, config.subset)
    report_dir, prepared_dir = (
        str(Path(runs_dir) / kind / name) for kind in ("validation", "prepared")
    )

    # Each stage waits for the one before: what a later one is given, the earlier one returned.
    report = tasks.validate(
        data_root, report_dir, config.subset, config.patch_size, checks or {}, reference
    )
    data = tasks.prepare(report.data_root, prepared_dir, config.subset)
    training = tasks.train(data, str(out), recipe, settings, report)
    evaluation = tasks.evaluate(training, data)
    exported = tasks.export(training, evaluation, data)
    registration = tasks.register(training, evaluation, exported, data)
    if not promote:
        return TrainedModel(registration, None)
    address = f"models:/{registration.name}/{registration.version}"
    verdict = tasks.promote(address, data.path, evaluation.split, config.subset)
    return TrainedModel(registration, verdict)


def main() -> int:
    try:
        trained = train_deblur(**json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    except (DeblurError, ParameterTypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(trained.registration)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
