"""The Prefect flow ``promote-deblur``: a version becomes champion if the gate finds it better."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from components.promote import Promotion
from deblur.cpus import sleep_when_idle
from deblur.data.layout import Averaging
from pipelines import tasks
from pipelines.choices import Split


@flow(name="promote-deblur")
def promote_deblur(
    version: Annotated[
        str, Field(examples=["3", "@candidate", "models:/deblur-unet/3"])
    ] = "models:/deblur-unet@candidate",
    data_root: str = "data/sample",
    split: Split = "test",
    subset: Averaging = "blur",
    dry_run: bool = False,
) -> Promotion:
    """Measure a version and the champion on the same pictures, and decide.

    A refusal is a result, and ends the flow run as completed. The decision with its evidence is
    the artifact ``gate-decision``.

    Args:
        version: a version's number, an alias as @candidate, or its models:/ address
        data_root: data set to judge by: a folder, a .toml layout or a .csv; local or s3://...
        split: which pictures of the data set
        subset: blurred folder: blur, or blur_gamma where the data set has one
        dry_run: decide, and neither record anything nor move an alias
    """
    sleep_when_idle()
    return tasks.promote(version, data_root, split, subset, dry_run)
