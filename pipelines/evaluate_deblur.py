"""The Prefect flow ``evaluate-deblur``: how good a model is, wherever it is."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from components.evaluate import EvalResult
from deblur.cpus import sleep_when_idle
from deblur.data.layout import Averaging
from pipelines import tasks
from pipelines.choices import Split


@flow(name="evaluate-deblur")
def evaluate_deblur(
    model: Annotated[
        str, Field(examples=["models:/deblur-unet@champion", "runs/mine", "http://127.0.0.1:8000"])
    ] = "models:/deblur-unet@candidate",
    data_root: str = "data/sample",
    split: Split = "test",
    subset: Averaging = "blur",
    runs_dir: str = "runs",
) -> EvalResult:
    """Measure a model on whole pictures, through the tiles it is served with, and write a report.

    Args:
        model: models:/ address, ONNX file, checkpoint, folder of a run, server, or default
        data_root: data set, prepared or not: a folder, a .toml layout or a .csv; local or s3://...
        split: which pictures of the data set
        subset: blurred folder: blur, or blur_gamma where the data set has one
        runs_dir: the report goes into evaluations/ below it, in a folder named like this flow run
    """
    sleep_when_idle()
    out = Path(runs_dir) / "evaluations" / str(flow_run.name)
    return tasks.evaluate_model(model, data_root, str(out), split, subset)
