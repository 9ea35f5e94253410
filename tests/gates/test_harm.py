"""Every planted fault fails a check, and what leaves pictures alone passes all of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deblur.errors import ConfigError
from deblur.evaluation import PictureScore, Predict, Scores
from deblur.gates import drawn
from deblur.gates.check import Check
from deblur.gates.harm import EQUAL, HarmBounds, check_harm, harm_of_scores, harm_sheet
from deblur.images import to_float, to_uint8
from deblur.metrics import Quality
from deblur.settings import build

NAMES = (
    "sharp_mean", "sharp_worst", "flat_field", "flat_border", "text", "text_contrast",
    "edge_overshoot", "edge_ringing", "noise_gain", "gradient_step", "extremes",
)  # fmt: skip


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def value(checks: Sequence[Check], name: str) -> float:
    return next(check.value for check in checks if check.name == name)


def on_pixels(change: Callable[[np.ndarray], np.ndarray]) -> Predict:
    """A model that works on levels, ``[H, W, 3]`` float32."""

    def predict(planes: np.ndarray) -> np.ndarray:
        levels = (planes[0].transpose(1, 2, 0) + 1) * 127.5
        return (change(levels).astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]

    return predict


def softened(levels: np.ndarray, sigma: float) -> np.ndarray:
    image = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32)


def sharpening(amount: float, sigma: float) -> Predict:
    return on_pixels(lambda levels: levels + amount * (levels - softened(levels, sigma)))


def ringing(levels: np.ndarray) -> np.ndarray:
    """Echoes of every edge beside it."""
    out = levels.copy()
    for distance, strength in ((3, -0.12), (8, 0.12)):
        for axis in (0, 1):
            aside = np.roll(levels, distance, axis) + np.roll(levels, -distance, axis)
            out += strength * (aside - 2 * levels)
    return out


def test_the_identity_changes_nothing(photograph: np.ndarray) -> None:
    checks = check_harm(lambda planes: planes, [photograph])
    assert tuple(check.name for check in checks) == NAMES
    assert failed(checks) == set()
    for name in ("sharp_mean", "sharp_worst", "text"):
        assert value(checks, name) == EQUAL
    for name in ("flat_field", "flat_border", "edge_overshoot", "edge_ringing", "gradient_step"):
        assert value(checks, name) == 0
    assert value(checks, "text_contrast") == pytest.approx(1.0)
    assert value(checks, "noise_gain") == pytest.approx(1.0)


def test_mild_sharpening_is_allowed(photograph: np.ndarray) -> None:
    checks = check_harm(sharpening(0.3, 1.0), [photograph])
    assert failed(checks) == set()
    assert 1.1 < value(checks, "noise_gain") < 1.4
    assert 0.05 < value(checks, "edge_overshoot") < 0.2


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_strong_unsharp_mask_is_found(sigma: float, photograph: np.ndarray) -> None:
    found = failed(check_harm(sharpening(1.5, sigma), [photograph]))
    assert {"edge_overshoot", "noise_gain", "text"} <= found


def test_a_softening_model_is_found(photograph: np.ndarray) -> None:
    checks = check_harm(on_pixels(lambda levels: softened(levels, 1.5)), [photograph])
    assert {"text", "text_contrast"} <= failed(checks)


def test_a_brighter_picture_is_found(photograph: np.ndarray) -> None:
    assert failed(check_harm(lambda x: x + 3 / 127.5, [photograph])) == set()
    checks = check_harm(lambda x: x + 8 / 127.5, [photograph])
    assert "flat_field" in failed(checks)
    assert value(checks, "flat_field") == 8


def test_swapped_colours_are_found(photograph: np.ndarray) -> None:
    checks = check_harm(lambda x: x[:, ::-1], [photograph])
    assert {"flat_field", "sharp_mean"} <= failed(checks)
    assert value(checks, "flat_field") == 160, "red (200, 40, 40) became blue"


def test_ringing_around_edges_is_found(photograph: np.ndarray) -> None:
    checks = check_harm(on_pixels(ringing), [photograph])
    assert "edge_ringing" in failed(checks)
    assert value(checks, "edge_ringing") > 0.1


def test_bands_in_a_gradient_are_found(photograph: np.ndarray) -> None:
    checks = check_harm(lambda x: np.round(x * 8) / 8, [photograph])
    assert value(checks, "gradient_step") == 15, "steps of 16 levels where there was one of 1"
    assert "gradient_step" in failed(checks)


def test_a_network_that_frames_the_picture_is_found() -> None:
    def framed(planes: np.ndarray) -> np.ndarray:
        out = planes.copy()
        out[..., :2, :] = 0
        return out

    checks = check_harm(framed, [])
    assert failed(checks) == {"flat_border"}


def test_what_is_not_a_number_is_found(photograph: np.ndarray) -> None:
    checks = check_harm(lambda planes: np.full_like(planes, np.nan), [photograph])
    assert failed(checks) == set(NAMES)


def test_a_model_that_breaks_on_tiny_pictures_is_found() -> None:
    def predict(planes: np.ndarray) -> np.ndarray:
        return planes / 0 if planes.shape[2] < 4 else planes

    with np.errstate(all="ignore"):
        checks = check_harm(predict, [])
    assert failed(checks) == {"extremes"}
    assert value(checks, "extremes") == 2
    assert "broken 1x1, 3x3" in checks[-1].about


def test_a_model_that_leaves_the_range_far_behind_is_found() -> None:
    checks = check_harm(lambda planes: 3 * planes, [])
    assert "extremes" in failed(checks)


def test_without_photographs_what_needs_none_is_judged() -> None:
    checks = check_harm(lambda planes: planes, [])
    assert tuple(check.name for check in checks) == NAMES[2:]


def test_progress_counts_every_picture(photograph: np.ndarray) -> None:
    counted = []

    class Counting:
        @contextmanager
        def _task(self, total: int) -> Any:
            done = []
            yield lambda steps=1, note="": done.append(steps)
            counted.append((total, sum(done)))

        def task(
            self, name: str, total: int, unit: str = "", done: int = 0
        ) -> AbstractContextManager[Any]:
            return self._task(total)

    check_harm(lambda planes: planes, [photograph], Counting())
    ((total, done),) = counted
    assert total == done > 20


def score(loss: float) -> PictureScore:
    return PictureScore("", "", Quality(25.0, 0.8), Quality(25.0 - loss, 0.8), 0.0)


def test_the_share_of_pictures_made_worse_and_the_worst_of_them() -> None:
    checks = harm_of_scores(Scores(tuple(score(loss) for loss in (-1.0, -0.5, 0.05, 0.3))))
    assert value(checks, "worse_share") == 0.25
    assert value(checks, "worst_loss") == pytest.approx(0.3)
    assert failed(checks) == {"worse_share"}
    assert failed(harm_of_scores(Scores(tuple(map(score, [-1.0] * 19 + [1.5]))))) == {"worst_loss"}


def test_a_model_that_only_helps_loses_nothing() -> None:
    checks = harm_of_scores(Scores((score(-1.0), score(-0.2))))
    assert [check.value for check in checks] == [0.0, 0.0]


def test_a_picture_that_was_not_blurred_and_stays_so_is_no_loss() -> None:
    same = Quality(float("inf"), 1.0)
    checks = harm_of_scores(Scores((PictureScore("", "", same, same, 0.0),)))
    assert [check.value for check in checks] == [0.0, 0.0]


def test_no_scores_pass_nothing() -> None:
    assert failed(harm_of_scores(Scores(()))) == {"worse_share", "worst_loss"}


def test_bounds_can_be_set_and_a_misspelt_one_is_named() -> None:
    strict = build(HarmBounds, {"flat_field": "2"}, "bounds")
    assert failed(check_harm(lambda x: x + 3 / 127.5, [], bounds=strict)) == {"flat_field"}
    with pytest.raises(ConfigError, match="did you mean 'flat_field'"):
        build(HarmBounds, {"flat_feld": "2"}, "bounds")


def test_drawn_text_is_readable_and_the_noise_is_as_strong_as_it_says() -> None:
    page = drawn.text()
    assert page.shape == (304, 448, 3)
    assert 0.05 < (page < 128).mean() < 0.3, "letters, and room around them"
    assert np.array_equal(drawn.text(drawn.WHITE, drawn.BLACK), 255 - page)
    grey = drawn.flat(256, 256, drawn.MID_GREY)
    assert (drawn.noisy(grey, 10) - grey.astype(float)).std() == pytest.approx(10, rel=0.02)


def test_the_sheet_shows_the_drawn_pictures_above_the_results() -> None:
    inverted = harm_sheet(lambda planes: -planes)
    kept = harm_sheet(lambda planes: planes)
    assert inverted.size == kept.size
    pixels = np.asarray(inverted)
    top, left, side = 8 + 22, 8, 152
    below = top + 22 + side + 8
    above, result = pixels[top : top + side, left : left + side], pixels[below:, left : left + side]
    assert np.array_equal(above, drawn.text()[:side, :side])
    assert np.array_equal(result[:side], to_uint8(-to_float(above)))
