"""When an event may start a training: not at once, and not too often."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rules:
    """Debounce and budget.

    Attributes:
        quiet: a training starts when no event has come for so long.
        patience: yet no later than so long after the first event that waits.
        per_day: trainings started by events within any 24 hours.
    """

    quiet: timedelta
    patience: timedelta
    per_day: int


@dataclass(frozen=True)
class Waiting:
    """A training that is scheduled by an event and has not started: since when, and for when."""

    since: datetime
    start: datetime


@dataclass(frozen=True)
class Plan:
    """When to start, and why then."""

    start: datetime
    reason: str


def plan(now: datetime, waiting: Waiting | None, started: Sequence[datetime], rules: Rules) -> Plan:
    """When the training that an event asks for shall start. None is ever lost: one that the budget
    does not allow yet starts when it does.

    Args:
        now: when the event came.
        waiting: the training that an earlier event asked for; this event joins it.
        started: when trainings that events asked for have started, in any order.
        rules: debounce and budget.
    """
    start, reason = now + rules.quiet, f"after {_words(rules.quiet)} without another event"
    if waiting is not None and waiting.since + rules.patience < start:
        start = max(now, waiting.since + rules.patience)
        reason = f"{_words(rules.patience)} after the first event, though others follow"
    # The budget: of any per_day + 1 trainings in a row, first and last are a day apart.
    latest = sorted(started)[-rules.per_day :]
    if len(latest) == rules.per_day and latest[0] + DAY > start:
        start = latest[0] + DAY
        reason = f"when a day has passed since {_times(rules.per_day)} before it"
    return Plan(start, reason)


def _words(span: timedelta) -> str:
    minutes = span.total_seconds() / 60
    return f"{minutes / 60:g} h" if minutes >= 120 else f"{minutes:g} min"


def _times(count: int) -> str:
    return "the training" if count == 1 else f"the first of {count} trainings"
