"""Which model the platform's picture server runs."""

from dataclasses import dataclass

from deblur.default import DEFAULT, DEFAULT_MODEL
from deblur.local.http import ask
from deblur.registry import CANDIDATE, CHAMPION, MODEL_NAME


@dataclass(frozen=True)
class Served:
    """An address for ``deblur serve``, and the version that an alias has, ``""`` of a file."""

    address: str
    version: str = ""


def aliases(mlflow: str) -> dict[str, str]:
    """The versions that have an alias, from the registry's server at ``mlflow``.

    Raises:
        SetupError: it does not answer.
    """
    found = ask(f"{mlflow}/api/2.0/mlflow/registered-models/get?name={MODEL_NAME}")
    listed = found["registered_model"].get("aliases", []) if found else []
    return {each["alias"]: str(each["version"]) for each in listed}


def choose_model(mlflow: str) -> Served | None:
    """The champion, else the candidate, else the model that comes with the package; ``None`` if
    there is none of these.

    Raises:
        SetupError: the registry does not answer.
    """
    known = aliases(mlflow)
    for alias in (CHAMPION, CANDIDATE):
        if alias in known:
            return Served(f"models:/{MODEL_NAME}@{alias}", known[alias])
    return Served(DEFAULT) if DEFAULT_MODEL.is_file() else None
