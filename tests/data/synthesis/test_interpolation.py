"""Optical flow and the frames in between."""

import sys

import numpy as np
import pytest

from deblur.data.synthesis.interpolation import OpticalFlow, between
from deblur.errors import SetupError
from deblur.metrics import psnr
from tests.data.synthesis.videos import photograph

HEIGHT, WIDTH = 192, 288


def crop(left: int, top: int = 60, name: str = "coffee") -> np.ndarray:
    return photograph(name)[top : top + HEIGHT, left : left + WIDTH]


def faded(a: np.ndarray, b: np.ndarray, time: float) -> np.ndarray:
    return np.rint((1 - time) * a.astype(float) + time * b).astype(np.uint8)


@pytest.mark.parametrize("precise", [True, False])
def test_a_known_shift_is_measured(precise: bool) -> None:
    motion = OpticalFlow(precise).motion(crop(100, 60), crop(97, 58))
    typical = np.median(motion.forward, axis=(0, 1))
    np.testing.assert_allclose(typical, [3.0, 2.0], atol=0.15)
    np.testing.assert_allclose(np.median(motion.backward, axis=(0, 1)), -typical, atol=0.15)
    assert motion.fastest == pytest.approx(np.hypot(3, 2), abs=0.7)
    assert motion.unreliable < 0.05


def test_from_30_to_240_fps_is_close_to_the_true_sub_frames() -> None:
    true = [crop(100 - k, 60) for k in range(9)]  # 1 px a sub-frame, none of them resampled
    motion = OpticalFlow().motion(true[0], true[8])
    made = [psnr(between(true[0], true[8], motion, k / 8), true[k]) for k in range(1, 8)]
    fades = [psnr(faded(true[0], true[8], k / 8), true[k]) for k in range(1, 8)]
    assert min(made) > 42.0
    assert min(m - f for m, f in zip(made, fades, strict=True)) > 18.0


def test_something_that_moves_before_a_still_background_is_followed() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ball = crop(100, 100, "astronaut")

    def scene(k: int) -> np.ndarray:
        inside = np.hypot(x - 110 - k, y - 96) < 50
        return np.where(inside[..., None], np.roll(ball, k, axis=1), crop(200))

    motion = OpticalFlow().motion(scene(0), scene(8))
    made = np.mean([psnr(between(scene(0), scene(8), motion, k / 8), scene(k)) for k in (2, 4, 6)])
    fade = np.mean([psnr(faded(scene(0), scene(8), k / 8), scene(k)) for k in (2, 4, 6)])
    assert made > fade + 12.0
    assert np.abs(motion.forward[96, 110] - [8, 0]).max() < 0.5
    # What the ball is about to cover, ahead of it, is in the first frame only.
    assert motion.seen_a[90:102, 161:166].mean() < 0.5 < motion.seen_a[90:102, 100:120].mean()


def test_the_ends_are_the_frames_themselves() -> None:
    a, b = crop(100), crop(96)
    motion = OpticalFlow().motion(a, b)
    np.testing.assert_array_equal(between(a, b, motion, 0.0), a)
    np.testing.assert_array_equal(between(a, b, motion, 1.0), b)


def test_the_motion_between_unrelated_pictures_is_called_unreliable() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    assert OpticalFlow().motion(a, b).unreliable > 0.4


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SetupError, match=r"pip install -e '\.\[video\]'"):
        OpticalFlow()
