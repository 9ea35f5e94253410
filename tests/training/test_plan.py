"""Steps, epochs, phases and the learning rate are functions of each other."""

import itertools

import pytest

from deblur.training.config import make_config
from deblur.training.plan import Plan, make_plan


def plan(crops: int = 10, **settings: object) -> Plan:
    config = make_config("seed", {"batch_size": 4, "num_epochs": 5, **settings})
    return make_plan(config, lambda size: crops)


def test_the_last_batch_of_an_epoch_is_a_step_of_its_own() -> None:
    assert plan().total_steps == 15
    assert plan().total_crops == 50
    assert [plan().steps_before(epoch) for epoch in range(6)] == [0, 3, 6, 9, 12, 15]
    assert [plan().crops_before(epoch) for epoch in range(6)] == [0, 10, 20, 30, 40, 50]
    assert [plan().epoch_of(step) for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_the_last_phase_has_larger_crops_and_smaller_batches() -> None:
    two = plan(last_epochs=2, last_patch_size=512, patch_size=256)
    first, last = two.phases
    assert (first.epochs, first.patch_size, first.batch_size) == (range(3), 256, 4)
    # As many pixels in a step as before.
    assert (last.epochs, last.patch_size, last.batch_size) == (range(3, 5), 512, 1)
    assert two.total_steps == 3 * 3 + 2 * 10
    assert [two.steps_before(epoch) for epoch in range(6)] == [0, 3, 6, 9, 19, 29]
    assert two.phase_of(2) is first and two.phase_of(3) is last
    assert [two.epoch_of(step) for step in (8, 9, 18, 19, 28)] == [2, 3, 3, 4, 4]
    assert two.crops_before(4) == 40


def test_all_epochs_may_be_of_the_last_phase() -> None:
    (only,) = plan(last_epochs=5, last_batch_size=2).phases
    assert (only.epochs, only.batch_size, only.patch_size) == (range(5), 2, 384)


def test_batches_from_the_middle_of_an_epoch_are_those_that_are_left() -> None:
    (phase,) = plan().phases
    whole = list(phase.batches(seed=3, epoch=1))
    assert [len(batch) for batch in whole[:4]] == [4, 4, 2, 4]
    for start in range(4):
        part = phase.batches(seed=3, epoch=1, start=start)
        assert list(part) == whole[start:]
        assert len(part) == len(whole) - start


def test_the_cosine_rises_falls_and_ends_where_it_says() -> None:
    course = plan(crops=80, num_epochs=5, schedule="cosine", warmup_steps=10, learning_rate=1e-3)
    assert course.total_steps == 100
    rates = [course.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert 1e-7 < rates[-1] < 2e-6


def test_a_constant_rate_stays() -> None:
    steady = plan(learning_rate=3e-4)
    assert {steady.learning_rate(step) for step in range(15)} == {3e-4}
