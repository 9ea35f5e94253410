"""Who is promoted, by figures that are given."""

import json
import math

import numpy as np
import pytest

from deblur.evaluation import PictureScore, Scores
from deblur.gates.check import Check
from deblur.gates.decision import decision_figure, decision_markdown
from deblur.gates.promotion import Decision, Measured, decide
from deblur.metrics import Quality

SCENES = 20
SETTING = {"provider": "cpu", "precision": "fp32", "tile": 256, "overlap": 64}
DATA = {
    "address": "pairs", "digest": "d" * 64, "split": "test", "subset": "blur", "kind": "recorded",
}  # fmt: skip
PASSED = Check("flat_field", 0.2, "at most", 1.0, "levels", "largest change of a flat field")
FAILED = Check("flat_field", 7.0, "at most", 1.0, "levels", "largest change of a flat field")

_rng = np.random.default_rng(0)
BLURRED = 25.0 + 3.0 * _rng.standard_normal(2 * SCENES)
#: How a second model differs from picture to picture, 0 in the mean.
SPREAD = _rng.standard_normal(2 * SCENES)
SPREAD -= SPREAD.mean()


def measured(gain: float, ms: float = 100.0, spread: float = 0.0, version: int = 1) -> Measured:
    """Of 20 scenes with two pictures each, ``gain`` dB above the blurred input in the mean."""
    psnr = BLURRED + gain + spread * SPREAD
    pictures = tuple(
        PictureScore(
            scene=f"scene-{index // 2}", name=str(index % 2),
            blurred=Quality(float(BLURRED[index]), 0.8), result=Quality(float(psnr[index]), 0.9),
            loss=0.1,
        )
        for index in range(2 * SCENES)
    )  # fmt: skip
    return Measured(version, f"{version}" * 64, SETTING, Scores(pictures), ms)


CHAMPION = measured(2.0, version=1)


def decided(candidate: Measured, champion: Measured | None = CHAMPION, *checks: Check) -> Decision:
    return decide(candidate, champion, checks or (PASSED,), DATA, "revision", "2026-01-02T03:04:05")


def test_better_on_most_pictures_is_promoted_even_if_slower() -> None:
    decision = decided(measured(2.3, ms=150.0, spread=0.3, version=2))
    assert decision.promoted
    assert decision.difference is not None
    assert decision.difference.mean == pytest.approx(0.3)
    assert 0.0 < decision.difference.low < 0.3 < decision.difference.high
    assert decision.reason.startswith("better: +0.300 dB")


def test_better_in_the_mean_alone_is_refused() -> None:
    decision = decided(measured(2.1, spread=1.0, version=2))
    assert decision.difference is not None
    assert decision.difference.mean == pytest.approx(0.1)
    assert decision.difference.low < -0.05
    assert not decision.promoted


def test_worse_is_refused_however_fast() -> None:
    decision = decided(measured(1.9, ms=10.0, spread=0.05, version=2))
    assert not decision.promoted
    assert "neither better" in decision.reason


@pytest.mark.parametrize(("ms", "promoted"), [(90.0, True), (92.0, False), (110.0, False)])
def test_as_good_within_the_margin_has_to_be_a_tenth_faster(ms: float, promoted: bool) -> None:
    decision = decided(measured(1.97, ms=ms, spread=0.01, version=2))
    assert decision.difference is not None
    assert -0.05 < decision.difference.low < 0.0
    assert decision.speedup == pytest.approx(100.0 / ms)
    assert decision.promoted == promoted


def test_the_same_model_again_is_refused() -> None:
    decision = decided(measured(2.0, version=2))
    assert decision.difference is not None
    assert decision.difference.mean == decision.difference.low == 0.0
    assert not decision.promoted


def test_no_gain_makes_up_for_a_failed_check() -> None:
    decision = decided(measured(4.0, version=2), CHAMPION, PASSED, FAILED)
    assert not decision.promoted
    assert decision.reason == "flat_field 7 levels, allowed at most 1 levels: failed"


def test_a_figure_that_is_not_known_is_a_failed_check() -> None:
    unknown = Check("leaked_pairs", math.nan, "at most", 0.0, "pairs", "not known")
    decision = decided(measured(4.0, version=2), CHAMPION, unknown)
    assert not decision.promoted
    assert json.loads(json.dumps(decision.plain(), allow_nan=False))["checks"][1]["value"] is None


def test_the_first_champion_has_to_help_and_to_pass_the_checks() -> None:
    assert decided(measured(0.5), None).promoted
    assert not decided(measured(0.5), None, FAILED).promoted
    assert not decided(measured(-0.1), None).promoted


def test_a_model_that_returns_its_input_helps_nobody() -> None:
    decision = decided(measured(0.0), None)
    assert not decision.promoted
    assert decision.reason.startswith("gain 0 dB, allowed at least 0.001 dB")


def test_pictures_of_one_scene_count_less_than_scenes() -> None:
    wide = decided(measured(2.3, spread=0.3, version=2))
    first = [p for p in measured(2.3, spread=0.3).scores.pictures if p.scene == "scene-0"]
    only = Measured(2, "2" * 64, SETTING, Scores(tuple(first)), 100.0)
    champion = Measured(
        1, "1" * 64, SETTING, Scores(CHAMPION.scores.by_scene()["scene-0"].pictures), 100.0
    )
    narrow = decided(only, champion)
    assert wide.difference is not None and narrow.difference is not None
    assert wide.difference.groups == 20
    assert narrow.difference.drawn == "pictures"
    assert narrow.scenes == 1


def test_one_picture_shows_nothing() -> None:
    def one(side: Measured) -> Measured:
        return Measured(side.version, side.sha256, SETTING, Scores(side.scores.pictures[:1]), 100.0)

    decision = decided(one(measured(3.0, version=2)), one(CHAMPION))
    assert not decision.promoted


def test_sides_measured_on_different_pictures_are_not_compared() -> None:
    fewer = Measured(2, "2" * 64, SETTING, Scores(CHAMPION.scores.pictures[1:]), 100.0)
    with pytest.raises(ValueError, match="different pictures"):
        decided(fewer)


def test_a_decision_says_the_same_of_the_same_figures_and_is_plain_json() -> None:
    candidate = measured(2.3, spread=0.3, version=2)
    decision, again = decided(candidate), decided(candidate)
    assert decision == again
    plain = json.loads(json.dumps(decision.plain(), allow_nan=False))
    assert plain["promoted"] is True
    assert plain["candidate"]["version"] == 2
    assert plain["champion"]["ms_per_megapixel"] == 100.0
    assert plain["pictures"] == 40 and plain["scenes"] == 20
    assert plain["checks"][0]["name"] == "gain" and plain["checks"][0]["passed"] is True
    assert plain["data"]["digest"] == "d" * 64


def test_the_page_and_the_picture_show_both_sides() -> None:
    candidate = measured(2.3, ms=50.0, spread=0.3, version=2)
    decision = decided(candidate, CHAMPION, PASSED, FAILED)
    page = decision_markdown(decision)
    assert "# Version 2: refused" in page
    assert "| candidate above champion, dB | +0.300 |" in page
    assert "2.00 times as fast" in page
    assert "**failed**" in page
    assert decision_figure(decision, candidate.scores, CHAMPION.scores).size == (1300, 460)
    assert decision_figure(decided(candidate, None), candidate.scores).size == (650, 460)
