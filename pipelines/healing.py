"""How a flow run begins that is started again when it crashes, and how it ends at a signal.

``pipelines/automations.py`` starts it again.
"""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.runtime import flow_run

from deblur.cpus import sleep_when_idle
from deblur.errors import DeblurError, StoppedError

#: A run that crashes is started again, but not for ever.
STARTS = 6


def begin(same: str) -> None:
    """Call first in the flow.

    Args:
        same: parameter by which another run goes on where this one was, for the error.

    Raises:
        DeblurError: the run has been started often enough.
    """
    if (flow_run.run_count or 0) > STARTS:
        raise DeblurError(
            f"this run has been started {STARTS} times and never ended: look at the logs of its "
            f"earlier starts, mend what stops it, and start another with the same {same}"
        )
    sleep_when_idle()
    logging.getLogger("deblur").setLevel(logging.INFO)  # for the flow run's log, see prefect.toml


@contextmanager
def signals_passed_on() -> Iterator[None]:
    """What stops at a signal has answered it by saving; then Prefect is to hear it as well."""
    try:
        yield
    except StoppedError as stopped:
        signal.raise_signal(stopped.signum)
        raise
