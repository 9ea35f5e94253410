"""Simulated motion blur."""

import numpy as np
import pytest

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import CameraPath, motion_blur, random_camera_path


def straight(length: int) -> CameraPath:
    steps = np.arange(-(length // 2), length // 2 + 1, dtype=float)
    return CameraPath(steps, np.zeros_like(steps), np.zeros_like(steps))


def test_a_point_is_smeared_into_the_path() -> None:
    sharp = np.zeros((41, 41, 3), np.uint8)
    sharp[20, 20] = 220
    blurred, kept = motion_blur(sharp, straight(11))
    middle = kept.shape[0] // 2
    assert kept[middle, middle, 0] == 220
    line = blurred[middle, :, 0]
    np.testing.assert_allclose(line[middle - 5 : middle + 6], 220 / 11)
    assert line.sum() == pytest.approx(220)


def test_gamma_averaging_is_brighter_at_an_edge_and_equal_on_a_flat_field() -> None:
    edge = np.zeros((41, 41, 3), np.uint8)
    edge[:, 20:] = 200
    linear, _ = motion_blur(edge, straight(11), "blur")
    gamma, _ = motion_blur(edge, straight(11), "blur_gamma")
    middle = linear.shape[1] // 2
    shares = linear[0, middle, 0] / 200
    assert gamma[0, middle, 0] == pytest.approx(200 * shares ** (1 / 2.2))
    flat = np.full((41, 41, 3), 90, np.uint8)
    np.testing.assert_allclose(motion_blur(flat, straight(11), "blur_gamma")[0], 90)


def test_the_pair_is_aligned_with_the_middle_of_the_exposure() -> None:
    path = random_camera_path(generator(0, Stream.BLUR, 1), 14.0, 0.3)
    middle = len(path.dx) // 2
    assert path.dx[middle] == path.dy[middle] == path.roll[middle] == 0


@pytest.mark.parametrize("length", [4.0, 15.0])
def test_a_random_path_has_the_length_and_roll_asked_for(length: float) -> None:
    path = random_camera_path(generator(0, Stream.BLUR, 2), length, 0.3)
    assert np.hypot(np.diff(path.dx), np.diff(path.dy)).sum() == pytest.approx(length)
    assert np.abs(path.roll).max() == pytest.approx(0.3)
    assert np.hypot(np.diff(path.dx), np.diff(path.dy)).max() < 1.5


def test_nothing_from_beyond_the_border_enters_the_pair() -> None:
    bright = np.full((80, 90, 3), 200, np.uint8)
    path = random_camera_path(generator(0, Stream.BLUR, 3), 15.0, 0.5)
    blurred, _ = motion_blur(bright, path)
    np.testing.assert_allclose(blurred, 200)
