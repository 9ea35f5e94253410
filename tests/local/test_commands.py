"""What the commands say where there is nothing, or nothing to start."""

import json
import os
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from deblur.cli import app
from deblur.local import starting
from deblur.local.processes import Identity
from deblur.local.state import PartState, PlatformState, Ports, StateFolder, shell_lines


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deblur(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "300"})


def test_up_wants_the_folder_with_the_deployments(folder: Path) -> None:
    done = deblur("up")
    assert done.exit_code == 2
    assert f"there is no prefect.yaml in {folder}" in done.stderr
    assert list(folder.iterdir()) == []


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "prefect.yaml").touch()
    monkeypatch.setattr(starting, "_NEEDED", {"pipelines": ("no_such_package",)})
    for command in ("up", "status", "down"):
        done = deblur(command)
        assert done.exit_code == 2
        assert "needs no_such_package" in done.stderr
        assert "(extra pipelines)" in done.stderr


def test_where_nothing_runs_status_says_how_to_start_and_down_has_nothing_to_do(
    folder: Path,
) -> None:
    done = deblur("status")
    assert (done.exit_code, done.stdout) == (
        1, f"nothing runs in {folder}: deblur up starts the platform\n",
    )  # fmt: skip
    assert json.loads(deblur("status", "--json").stdout)["running"] is False
    env = deblur("status", "--env")
    assert (env.exit_code, env.stdout) == (1, "")
    down = deblur("down")
    assert (down.exit_code, down.stdout) == (0, f"nothing runs in {folder}\n")


def state_of(folder: Path, started: float) -> PlatformState:
    """A platform whose supervisor and MLflow have the number of this process."""
    here = Identity(pid=os.getpid(), started=started)
    part = PartState(name="mlflow", condition="ready", process=here, log=folder / "mlflow.log")
    return PlatformState(
        folder=folder, supervisor=here, since=started, ports=Ports(), parts=(part,)
    )


def test_numbers_that_others_have_by_now_are_not_touched(folder: Path) -> None:
    files = StateFolder(folder)
    files.write(state_of(folder, psutil.Process().create_time() - 3600))
    said = json.loads(deblur("status", "--json").stdout)
    assert (said["well"], said["supervisor"], said["parts"][0]["state"]) == (False, None, "gone")
    down = deblur("down")  # would end this very process
    assert down.exit_code == 0
    assert files.read() is None


def test_a_damaged_state_file_is_said_with_its_remedy(folder: Path) -> None:
    files = StateFolder(folder)
    files.write(state_of(folder, 0.0))
    file = folder / ".deblur" / "platform" / "state.json"
    file.write_text(file.read_text()[:-20])
    done = deblur("status")
    assert done.exit_code == 2
    assert f"{file} cannot be read" in done.stderr
    assert "delete it" in done.stderr


def test_lines_for_shells() -> None:
    variables = {"A": "http://127.0.0.1:1/api"}
    assert shell_lines(variables, "bash") == ["export A=http://127.0.0.1:1/api"]
    assert shell_lines(variables, "powershell") == ['$env:A = "http://127.0.0.1:1/api"']
