"""The Prefect flow ``batch-deblur``: all pictures of a folder, or of an ``s3://`` address."""

from typing import Annotated

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

import components.batch
from components.batch import BatchResult
from deblur.default import DEFAULT
from deblur.progress import for_terminal
from pipelines.healing import begin, signals_passed_on
from pipelines.tasks import RETRIED, UNCACHED

#: Key of the summary on Prefect's page.
BATCH = "batch-report"


@flow(name="batch-deblur")
def batch_deblur(
    source: Annotated[str, Field(examples=["data/photos", "s3://photos/2026"])],
    target: Annotated[str, Field(examples=["data/deblurred", "s3://deblurred/2026"])],
    model: Annotated[
        str, Field(examples=["models:/deblur-unet@champion", "http://127.0.0.1:8000"])
    ] = DEFAULT,
    shard: str = "0/1",
    workers: Annotated[int | None, Field(ge=1)] = None,
    max_megapixels: Annotated[float, Field(gt=0)] = 100.0,
    price_per_hour: Annotated[float | None, Field(ge=0)] = None,
    overwrite: bool = False,
) -> BatchResult:
    """Deblur the pictures that have not been done; those that cannot be are in the report.

    A flow run that is retried, or another one with the same target, goes on where it was.

    Args:
        source: folder of pictures; local or s3://...
        target: folder for the results, under the same names; local or s3://...
        model: models:/ address, ONNX file, checkpoint, folder of a run, server, or default
        shard: part I/N, counted from 0; flow runs may share a batch by it
        workers: pictures computed side by side; by default as was tuned
        max_megapixels: larger pictures are reported and left out
        price_per_hour: of one machine, for the costs in the report
        overwrite: replace pictures of the target that no batch has written
    """
    begin(same="target")
    result = _batch(
        source, target, model, shard, workers, max_megapixels, price_per_hour, overwrite
    )
    create_markdown_artifact(
        f"{result.summary}\nReports: `{result.report}`\n",
        key=BATCH, description=f"{result.done} of {result.pictures} pictures",
    )  # fmt: skip
    return result


@task(name="batch", **UNCACHED, **RETRIED)
def _batch(
    source: str,
    target: str,
    model: str,
    shard: str,
    workers: int | None,
    max_megapixels: float,
    price_per_hour: float | None,
    overwrite: bool,
) -> BatchResult:
    with signals_passed_on():
        return components.batch.batch(
            source, target, model, shard, workers, max_megapixels, price_per_hour, overwrite,
            for_terminal(),
        )  # fmt: skip
