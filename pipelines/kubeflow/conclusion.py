"""The end of a run, however it went: what came of it, and no MLflow run that says it still runs."""

import json
from dataclasses import dataclass
from pathlib import Path

from deblur.errors import CheckpointError
from deblur.tracking import load_mlflow, reachable

#: As Kubeflow's servers, old and new, and its local runner name how a run ended.
_WELL = {"SUCCEEDED", "COMPLETE", "COMPLETED", "CACHED"}
_STOPPED = {"CANCELLED", "CANCELED", "CANCELLING"}


@dataclass(frozen=True)
class Conclusion:
    """How a run ended.

    Attributes:
        state: of the pipeline, as Kubeflow says it.
        run_id: of MLflow; empty if none was begun.
        status: of the MLflow run now; empty without one.
        marked: whether it was still ``RUNNING`` and has got its status here.
        error: what Kubeflow says is wrong.
    """

    state: str
    run_id: str = ""
    status: str = ""
    marked: bool = False
    error: str = ""

    def markdown(self, name: str) -> str:
        tracked = f"run `{self.run_id}`, {self.status}" if self.run_id else "no run was begun"
        said = [f"# {name}: {self.state}", "", f"- MLflow: {tracked}"]
        if self.marked:
            said.append("- it had not ended by itself, and was marked here")
        if self.error:
            said.append(f"- {self.error}")
        if self.state not in _WELL:
            said.append(f"- a run with `run_name={name}` goes on from the last checkpoint")
        return "\n".join(said) + "\n"


def conclude(folder: Path, state: str, error: str = "") -> Conclusion:
    """Mark the MLflow run of a training's folder as ended if it says that it runs.

    A training that was killed with its pod could not. One that another run of the pipeline goes on
    with in the same folder is left alone.

    Args:
        folder: of the training.
        state: how the pipeline ended.
        error: what Kubeflow says is wrong.

    Raises:
        SetupError: the MLflow store cannot be reached.
    """
    from deblur.training.folder import CheckpointFolder
    from deblur.training.tracked import RUN_FILE

    try:
        run_id = str(json.loads((folder / RUN_FILE).read_text("utf-8"))["run_id"])
    except (OSError, ValueError, KeyError):
        return Conclusion(state, error=error)
    mlflow = load_mlflow()
    with reachable(mlflow):
        client = mlflow.MlflowClient()
        status = str(client.get_run(run_id).info.status)
        if status != "RUNNING":
            return Conclusion(state, run_id, status, error=error)
        try:
            with CheckpointFolder(folder).writing():
                status = _ended(state)
                client.set_terminated(run_id, status)
        except CheckpointError:
            return Conclusion(state, run_id, status, error=error)
    return Conclusion(state, run_id, status, marked=True, error=error)


def _ended(state: str) -> str:
    """MLflow's word."""
    if state in _WELL:
        return "FINISHED"
    return "KILLED" if state in _STOPPED else "FAILED"
