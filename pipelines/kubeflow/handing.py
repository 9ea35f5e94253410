"""What stages hand on to each other, in the pods: dataclasses as JSON, files as artifacts.

The components of ``stages.py`` are run from their source text, so all they share is here.
"""

import base64
import json
import logging
import math
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from components.validate import data_state
from deblur.cpus import sleep_when_idle
from deblur.data.layout import Averaging
from deblur.digests import file_sha256
from pipelines.caching import key

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result", bound="DataclassInstance")


def begin() -> None:
    """Log lines of the library appear in the pod's log."""
    sleep_when_idle()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("deblur").setLevel(logging.INFO)


def hand(result: "DataclassInstance", **beside: str) -> dict[str, Any]:
    """A result as JSON, with digests beside it of what its paths lead to.

    KFP takes equal inputs for equal work, and a path stays equal when the file is another one.
    """
    return {**asdict(result), **beside}


def take(kind: type[Result], handed: Mapping[str, Any]) -> Result:
    """The dataclass of a result; whole numbers come as floats."""
    names = {field.name for field in fields(kind)}
    values = {name: value for name, value in handed.items() if name in names}
    return TypeAdapter(kind).validate_python(values)


def version_of(data_root: str, subset: Averaging, reference: str) -> str:
    """A digest of what validation reads: the data by its listing, the reference, the code.

    Of a store that does not tell whether a file has changed, a new one each time.

    Raises:
        DataError: there is no such data.
    """
    state = data_state(data_root, subset) or uuid.uuid4().hex
    place = Path(reference)
    files = sorted(place.glob("*.json*")) if place.is_dir() else [place]
    known = [file_sha256(file) for file in files if reference and file.is_file()]
    return key("version", state, known)


def log_metrics(metrics: Any, values: Mapping[str, float]) -> None:
    """Fill an artifact of metrics; what is not finite cannot be in JSON, and is left out."""
    for name, value in values.items():
        if math.isfinite(value):
            metrics.log_metric(name, value)
    # They are in the artifact's own description, but the local cache takes one without a file for
    # one that is gone.
    keep_text(metrics, json.dumps(metrics.metadata))


def keep_file(artifact: Any, file: Path) -> None:
    """An artifact that is a copy of a file, empty if there is none."""
    target = Path(artifact.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_file():
        shutil.copyfile(file, target)
    else:
        target.touch()


def keep_text(artifact: Any, text: str) -> None:
    """An artifact of a text."""
    target = Path(artifact.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def keep_picture(artifact: Any, title: str, picture: Path) -> None:
    """A page with one PNG in it."""
    encoded = base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else ""
    shown = f'<img alt="{title}" src="data:image/png;base64,{encoded}">' if encoded else ""
    keep_text(artifact, f"<!doctype html><title>{title}</title><p>{title}</p>{shown}\n")
