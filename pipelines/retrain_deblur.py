"""The Prefect flow ``retrain-deblur``: an event asks for a training, this flow schedules it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Scheduled
from pydantic import Field

from pipelines.retraining import DAY, Plan, Rules, Waiting, plan

TRAIN = "train-deblur/train-deblur"
#: Of trainings that an event asked for.
TAG = "retraining"


@flow(name="retrain-deblur")
def retrain_deblur(
    event: str,
    payload: dict[str, Any] | None = None,
    quiet_minutes: Annotated[float, Field(ge=0)] = 30,
    patience_minutes: Annotated[float, Field(ge=0)] = 240,
    per_day: Annotated[int, Field(ge=1)] = 2,
) -> str:
    """Schedule ``train-deblur``, or put off the one that waits already; returns the run's id.

    The training has the parameters of its deployment, with the ``data_root`` of the event if it
    names one. Trainings on different data wait beside each other.

    Args:
        event: what happened, as deblur.input-drift
        payload: what the event tells; its data_root is trained on
        quiet_minutes: without another event, before the training starts
        patience_minutes: after the first event, when it starts even if others follow
        per_day: trainings that events may start within 24 hours
    """
    now = datetime.now(UTC)
    rules = Rules(timedelta(minutes=quiet_minutes), timedelta(minutes=patience_minutes), per_day)
    given = {k: v for k, v in (payload or {}).items() if k == "data_root" and v}
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(TRAIN)
        data_root = {**deployment.parameters, **given}.get("data_root")
        runs = _runs(client, deployment.id)
        before = next(
            (r for r in runs if _waits(r) and r.parameters.get("data_root") == data_root), None
        )
        decided = plan(now, _waiting(before, now), _started(runs, now), rules)
        message = f"{event}: {decided.reason}"
        state: State[Any] = Scheduled(scheduled_time=decided.start, message=message)
        if before is None:
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters=given, state=state, tags=[TAG]
            )
        else:
            run = before
            client.set_flow_run_state(run.id, state)
    _tell(event, payload or {}, run, decided, joined=before is not None)
    return str(run.id)


def _runs(client: SyncPrefectClient, deployment: Any) -> list[FlowRun]:
    """Trainings that events asked for, the newest first."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[TAG])),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=100,
    )


def _waits(run: FlowRun) -> bool:
    """Scheduled and never started, so not one that goes on after a crash."""
    return run.state is not None and run.state.is_scheduled() and run.run_count == 0


def _waiting(run: FlowRun | None, now: datetime) -> Waiting | None:
    if run is None:
        return None
    return Waiting(run.created or now, run.expected_start_time or now)


def _started(runs: Sequence[FlowRun], now: datetime) -> list[datetime]:
    """When those of the last day have started; a cancelled one that never did costs nothing."""
    times = [run.start_time for run in runs if run.start_time is not None]
    return [time for time in times if time > now - DAY]


def _tell(event: str, payload: dict[str, Any], run: FlowRun, decided: Plan, joined: bool) -> None:
    start = decided.start.isoformat(timespec="seconds")
    sentence = (
        f"{event}: training {run.name} {'now starts' if joined else 'starts'} at {start}, "
        f"{decided.reason}"
    )
    get_run_logger().info(sentence)
    told = "\n".join(f"| {name} | {value} |" for name, value in sorted(payload.items()))
    create_markdown_artifact(
        f"{sentence}.\n\n| | |\n|---|---|\n{told}\n", key="retraining", description=event
    )
