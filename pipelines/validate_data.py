"""The Prefect flow ``validate-data``: is a data set usable, and is it another one than before?"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.events import emit_event
from prefect.variables import Variable
from pydantic import Field

from components.validate import DataReport, data_state
from deblur.cpus import sleep_when_idle
from deblur.data.layout import Averaging
from deblur.data.listing import name_of
from deblur.data.prepare import describe
from deblur.digests import json_sha256
from deblur.progress import for_terminal
from pipelines import tasks
from pipelines.events import DATA_VERSION_EVENT


@flow(name="validate-data")
def validate_data(
    data_root: str = "data/sample",
    subset: Averaging = "blur",
    crop: Annotated[int, Field(ge=32)] = 256,
    expect_new: bool = True,
    runs_dir: str = "runs",
    checks: Annotated[dict[str, Any] | None, Field(examples=[{"misaligned.threshold": 3}])] = None,
    reference: str | None = None,
) -> DataReport:
    """Look at every pair of a data set and write a report; nothing is trained.

    Data that cannot be trained on fails the flow run. Of a usable version that was not seen before
    the event ``deblur.data.new-version`` tells.

    Args:
        data_root: data set: a folder, a .toml layout or a .csv; local or s3://...
        subset: blurred folder: blur, or blur_gamma where the data set has one
        crop: side of the training crops in pixels, which have to fit into the pictures
        expect_new: tell of a version that was not seen before, which may start a retraining
        runs_dir: the report goes into validation/ below it
        checks: rules of validation that differ, see docs/data.md
        reference: validation report of an earlier version of the data, to see drift
    """
    sleep_when_idle()
    out = Path(runs_dir) / "validation" / name_of(data_root, subset)
    # Before the pictures are read: what changes meanwhile is another version, for the next time.
    state = data_state(data_root, subset)
    report = tasks.validate(data_root, str(out), subset, crop, checks or {}, reference)
    if expect_new:
        _tell_of_new_version(data_root, subset, state)
    return report


def _tell_of_new_version(data_root: str, subset: Averaging, state: str | None) -> None:
    """Compare with what was seen last, which a variable on Prefect's server remembers."""
    name = name_of(data_root, subset)
    variable = variable_of(data_root, subset)
    seen = json.loads(str(Variable.get(variable, default="{}")))
    if state is not None and seen.get("state") == state:
        return  # no file has changed, so none needs to be read
    digest, previous = describe(data_root, subset, for_terminal()).digest, seen.get("digest", "")
    if digest != previous:
        # Told before it is remembered: a crash in between tells twice, and never not at all.
        emit_event(
            event=DATA_VERSION_EVENT,
            resource={"prefect.resource.id": f"deblur.data.{name}"},
            payload={"digest": digest, "previous": previous, "data_root": data_root},
        )
        get_run_logger().info("%s is now version %s", data_root, digest[:12])
    Variable.set(variable, json.dumps({"state": state, "digest": digest}), overwrite=True)


def variable_of(data_root: str, subset: Averaging) -> str:
    """The variable that remembers a data set: letters, digits and dashes, and never the same for
    two addresses with the same end."""
    name = re.sub(r"[^a-z0-9]+", "-", name_of(data_root, subset).lower()).strip("-")
    return f"deblur-data-{name[:80]}-{json_sha256([data_root, subset])[:8]}"
