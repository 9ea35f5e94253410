"""Confidence intervals that hold what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from deblur.bootstrap import _student_quantile, mean_interval, paired_interval


def drawn_scenes(
    rng: np.random.Generator, scenes: int, pictures: int, between: float = 1.0, within: float = 0.3
) -> tuple[list[float], list[str]]:
    """Values around zero: scenes differ by ``between``, pictures of a scene by ``within``."""
    levels = np.repeat(rng.normal(0, between, scenes), pictures)
    values = levels + rng.normal(0, within, levels.size)
    return values.tolist(), [f"scene{number // pictures}" for number in range(levels.size)]


@pytest.mark.parametrize("scenes", [8, 11, 40])
def test_about_95_of_100_intervals_hold_the_truth(scenes: int) -> None:
    rng, held, trials = np.random.default_rng(9), 0, 400
    for _ in range(trials):
        found = mean_interval(*drawn_scenes(rng, scenes, 8), draws=600)
        held += found.low <= 0.0 <= found.high
    assert 0.91 <= held / trials <= 0.985  # 400 trials tell it to 0.011


def test_drawing_pictures_of_similar_scenes_one_by_one_would_hold_it_far_too_rarely() -> None:
    rng, held, trials = np.random.default_rng(4), 0, 200
    for _ in range(trials):
        values, _ = drawn_scenes(rng, 11, 20)
        found = mean_interval(values, [str(n) for n in range(len(values))], draws=500)
        held += found.low <= 0.0 <= found.high
    assert held / trials < 0.6


def test_drawing_scenes_gives_a_wider_interval_where_scenes_differ() -> None:
    values, scenes = drawn_scenes(np.random.default_rng(5), 11, 30)
    by_scene = mean_interval(values, scenes)
    by_picture = mean_interval(values, [str(number) for number in range(len(values))])
    assert by_scene.mean == by_picture.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert by_scene.high - by_scene.low > 3 * (by_picture.high - by_picture.low)


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([31.25] * 12, ["a", "b", "c"] * 4)
    assert (found.mean, found.low, found.high) == (31.25, 31.25, 31.25)
    assert (found.drawn, found.groups, found.level) == ("scenes", 3, 0.95)


def test_large_scenes_weigh_more_as_in_the_mean_over_pictures() -> None:
    # Two scenes: drawn means are 0 (both small), 1 (both large) or 9/10 (one of each).
    values, scenes = [0.0] + [1.0] * 9, ["small"] + ["large"] * 9
    found = mean_interval(values, scenes, level=0.4)
    assert found.mean == pytest.approx(0.9)
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_scene_falls_back_to_its_pictures_and_says_so() -> None:
    values = np.random.default_rng(6).normal(30, 2, 50).tolist()
    found = mean_interval(values, ["only"] * 50)
    assert (found.drawn, found.groups) == ("pictures", 50)
    half = stats.t.ppf(0.975, 49) * np.std(values, ddof=1) / math.sqrt(50)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_one_picture_has_a_mean_and_no_interval() -> None:
    found = mean_interval([28.0], ["only"])
    assert found.mean == 28.0 and math.isnan(found.low) and math.isnan(found.high)
    assert (found.drawn, found.groups) == ("pictures", 1)


def test_the_same_call_gives_the_same_interval_and_another_seed_nearly_the_same() -> None:
    values, scenes = drawn_scenes(np.random.default_rng(7), 11, 10)
    first, again = mean_interval(values, scenes), mean_interval(values, scenes)
    other = mean_interval(values, scenes, seed=1)
    assert first == again
    assert other != first
    assert other.low == pytest.approx(first.low, abs=0.1 * (first.high - first.low))


def test_the_difference_of_two_models_is_known_better_than_either_mean() -> None:
    theirs, scenes = drawn_scenes(np.random.default_rng(8), 11, 10, between=3.0)
    ours = [value + 0.1 + 0.01 * math.sin(number) for number, value in enumerate(theirs)]
    found, alone = paired_interval(ours, theirs, scenes), mean_interval(theirs, scenes)
    assert found.low < 0.1 < found.high
    assert found.low > 0.09 and found.high < 0.11
    assert alone.high - alone.low > 1.0
    swapped = paired_interval(theirs, ours, scenes)
    assert swapped.mean == pytest.approx(-found.mean)


@pytest.mark.parametrize("freedom", [1, 2, 10, 49, 1110])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_student_quantiles_equal_scipys(freedom: int, share: float) -> None:
    assert _student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-5)


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], [], "a value and a scene of each picture"),
        ([1.0, 2.0], ["a"], "got .* values and 1 scenes"),
        ([1.0, math.inf], ["a", "b"], "not finite"),
    ],
)
def test_what_has_no_mean_is_refused(values: list[float], groups: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(values, groups)


def test_different_numbers_of_pictures_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same pictures of both, got 1 and 2"):
        paired_interval([1.0], [1.0, 2.0], ["a"])
