"""What Prefect's server does unasked: runs that crashed go on, and events start a retraining.

``pipelines.deploy`` puts the automations on the server, or brings those that are there up to date.
``docs/pipelines.md`` says what each of them is for.
"""

import asyncio
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture, TriggerTypes
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from deblur.errors import SetupError
from pipelines.events import DATA_VERSION_EVENT, DRIFT_EVENT

#: Flows that go on where they were when they are started again.
HEALED = ("train-deblur", "batch-deblur")
RETRAIN = "retrain-deblur/retrain-deblur"

#: A flow run sends a heartbeat every 30 s, see prefect.toml: three missed ones are a crash.
SILENCE = timedelta(seconds=100)
#: A crash is reported twice, by the process that watches the run and by the worker, seconds apart.
#: The second report must not find the run started again.
PAUSE = timedelta(seconds=20)

_RUN = "prefect.flow-run."
_ENDED = {f"{_RUN}{state}" for state in ("Completed", "Failed", "Cancelled")}


def automations() -> list[Automation]:
    """All of them, as they shall be.

    Raises:
        SetupError: the deployment that events start is not on the server.
    """
    return [
        Automation(
            name="deblur: a silent run has crashed",
            description="A run without a heartbeat is marked as crashed, which frees its slot.",
            trigger=_missing(
                after={f"{_RUN}heartbeat"},
                expected={f"{_RUN}heartbeat", f"{_RUN}Crashed", *_ENDED},
                within=SILENCE,
            ),
            actions=[_change(StateType.CRASHED, "Crashed", "no heartbeat")],
        ),
        Automation(
            name="deblur: a crashed run goes on",
            description="The same run is scheduled again, and goes on from its last checkpoint.",
            # Not on the event of the crash itself: the server evaluates all triggers of an event in
            # one transaction, and on SQLite an action in the middle of it locks the next one out.
            trigger=_missing(
                after={f"{_RUN}Crashed"},
                expected={f"{_RUN}AwaitingRetry", f"{_RUN}Running", *_ENDED},
                within=PAUSE,
            ),
            actions=[_change(StateType.SCHEDULED, "AwaitingRetry", "goes on after a crash")],
        ),
        Automation(
            name="deblur: new data and drift start a retraining",
            description="retrain-deblur waits for quiet, and keeps to so many trainings a day.",
            trigger=EventTrigger(
                expect={DATA_VERSION_EVENT, DRIFT_EVENT},
                match=ResourceSpecification({"prefect.resource.id": ["deblur.*"]}),
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[_retrain()],
        ),
    ]


def apply() -> list[str]:
    """Create or update every automation; returns their names.

    Raises:
        SetupError: a deployment that one of them starts is missing.
    """
    wanted = automations()
    asyncio.run(_put(wanted))
    return [automation.name for automation in wanted]


async def _put(wanted: list[Automation]) -> None:
    for automation in wanted:
        try:
            automation.id = (await Automation.aread(name=automation.name)).id
        except ValueError:
            await automation.acreate()
        else:
            await automation.aupdate()


def _missing(after: set[str], expected: set[str], within: timedelta) -> TriggerTypes:
    """Fires for a run of ours if nothing that is expected follows ``after`` in time."""
    return EventTrigger(
        after=after,
        expect=expected,
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification(
            {"prefect.resource.role": "flow", "prefect.resource.name": list(HEALED)}
        ),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _change(state: StateType, name: str, message: str) -> ActionTypes:
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _retrain() -> ActionTypes:
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(RETRAIN)
        except ObjectNotFound:
            raise SetupError(
                f"there is no deployment {RETRAIN} on the server: put it there first with "
                " prefect --no-prompt deploy --all"
            ) from None
    return RunDeployment(
        source="selected",
        deployment_id=deployment.id,
        job_variables=None,
        parameters={"event": "{{ event.event }}", "payload": "{{ event.payload }}"},
    )
