"""When an event may start a training."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.retraining import Plan, Rules, Waiting, plan

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RULES = Rules(quiet=timedelta(minutes=30), patience=timedelta(hours=4), per_day=2)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def test_the_first_event_starts_a_training_after_the_time_of_quiet() -> None:
    assert plan(NOW, None, [], RULES) == Plan(
        NOW + minutes(30), "after 30 min without another event"
    )


def test_a_second_event_puts_the_training_that_waits_off() -> None:
    waiting = Waiting(since=NOW - minutes(20), start=NOW + minutes(10))
    assert plan(NOW, waiting, [], RULES).start == NOW + minutes(30)


def test_events_that_never_cease_cannot_put_it_off_beyond_patience() -> None:
    waiting = Waiting(since=NOW - minutes(230), start=NOW + minutes(10))
    decided = plan(NOW, waiting, [], RULES)
    assert decided.start == NOW + minutes(10)
    assert decided.reason == "4 h after the first event, though others follow"


def test_a_training_whose_patience_has_passed_is_not_planned_in_the_past() -> None:
    waiting = Waiting(since=NOW - minutes(500), start=NOW - minutes(1))
    assert plan(NOW, waiting, [], RULES).start == NOW


@pytest.mark.parametrize("order", [1, -1])
def test_beyond_the_budget_it_waits_until_a_day_has_passed_since_the_first_of_them(
    order: int,
) -> None:
    started = [NOW - minutes(600), NOW - minutes(300)][::order]
    decided = plan(NOW, None, started, RULES)
    assert decided.start == NOW - minutes(600) + timedelta(days=1)
    assert decided.reason == "when a day has passed since the first of 2 trainings before it"


def test_only_the_newest_trainings_count_against_the_budget() -> None:
    started = [NOW - minutes(1430), NOW - minutes(600), NOW - minutes(300)]
    assert plan(NOW, None, started, RULES).start == NOW - minutes(600) + timedelta(days=1)


def test_a_budget_that_is_free_again_by_then_delays_nothing() -> None:
    started = [NOW - timedelta(days=1) + minutes(20), NOW - minutes(300)]
    assert plan(NOW, None, started, RULES).start == NOW + minutes(30)


def test_the_budget_outweighs_patience() -> None:
    waiting = Waiting(since=NOW - minutes(500), start=NOW)
    started = [NOW - minutes(700), NOW - minutes(650)]
    assert plan(NOW, waiting, started, RULES).start == NOW - minutes(700) + timedelta(days=1)
