"""Which faults are worth another try."""

import errno
import sqlite3
from collections.abc import Callable

import httpx
import pytest
import requests
from filelock import Timeout
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from deblur.errors import CheckpointError, ConfigError, DataError, SetupError, StoppedError
from pipelines.faults import passes


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        TimeoutError("timed out"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError(errno.ESTALE, "Stale file handle"),
        requests.ConnectionError("refused"),
        httpx.ConnectTimeout("timed out"),
        answered(503),
        answered(429),
        sqlite3.OperationalError("database is locked"),
        MlflowException("later", TEMPORARILY_UNAVAILABLE),
        SetupError("the MLflow store http://127.0.0.1:1 cannot be reached (refused): start it"),
    ],
    ids=repr,
)
def test_what_is_away_for_a_moment_is_tried_again(error: Exception) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        DataError("a picture is damaged"),
        ConfigError("there is no recipe 'sed'"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("no such table: runs"),
        SetupError("the MLflow store sqlite:///m cannot be reached (database or disk is full)"),
        SetupError("tracking needs MLflow, which is not installed"),
        MlflowException("no such metric", INVALID_PARAMETER_VALUE),
        answered(404),
        Timeout("prepared/.lock"),
        StoppedError(15, "asked to stop"),
        ValueError("a defect"),
    ],
    ids=repr,
)
def test_what_stays_as_it_is_is_not(error: Exception) -> None:
    assert not passes(error)


def raised_for(cause: Exception, error: Exception, hidden: bool) -> Exception:
    try:
        try:
            raise cause
        except Exception as seen:
            if hidden:
                raise error from None
            raise error from seen
    except Exception as raised:
        return raised


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (lambda: ConnectionRefusedError("refused"), True),
        (lambda: PermissionError("the key is wrong"), False),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_an_error_for_people_is_judged_by_what_it_stands_for(
    cause: Callable[[], Exception], expected: bool, hidden: bool
) -> None:
    told = CheckpointError("cannot save runs/mine/step.pt")
    assert passes(raised_for(cause(), told, hidden)) is expected
