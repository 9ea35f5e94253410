"""One random shake: its range, its light and its perspective."""

import numpy as np
import pytest

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import CameraPath, motion_blur, random_camera_path, steps_for, views
from deblur.data.synthesis.shake import ShakeConfig, random_shake, shake
from deblur.errors import ConfigError
from deblur.settings import build


def draw(number: int) -> np.random.Generator:
    return generator(0, Stream.BLUR, number)


def straight(length: int) -> CameraPath:
    steps = np.arange(-(length // 2), length // 2 + 1, dtype=float)
    return CameraPath(steps, np.zeros_like(steps), np.zeros_like(steps))


def lamp(value: int) -> np.ndarray:
    """A spot of 5x5 on black."""
    night = np.zeros((61, 61, 3), np.uint8)
    night[28:33, 28:33] = value
    return night


def test_paths_are_as_long_and_turn_as_far_as_the_range_allows() -> None:
    config = ShakeConfig(shortest=8, longest=20, roll=0.5, perspective=1.0)
    paths = [random_shake(config, draw(n))[0] for n in range(200)]
    lengths = [np.hypot(np.diff(p.dx), np.diff(p.dy)).sum() for p in paths]
    assert 8 <= min(lengths) < 8.5 and 19.5 < max(lengths) <= 20 + 1e-9
    for path in paths:
        assert path.yaw is not None and path.pitch is not None
        assert np.abs(path.roll).max() <= 0.5
        assert max(np.abs(path.yaw).max(), np.abs(path.pitch).max()) <= 1.0
        assert path.reach(300, 400) <= config.reach(300, 400)


def test_the_reach_of_a_range_holds_for_tilts_alone() -> None:
    config = ShakeConfig(shortest=0.5, longest=0.5, roll=0, perspective=6)
    reaches = [random_shake(config, draw(n))[0].reach(300, 400) for n in range(100)]
    assert 0.6 * config.reach(300, 400) < max(reaches) <= config.reach(300, 400)


def test_the_range_of_blur_is_seen_in_the_picture() -> None:
    # A single bright pixel draws the path: what it covers is about as long as asked for.
    dot = np.zeros((161, 161, 3), np.uint8)
    dot[80, 80] = 255
    for length in (10.0, 40.0):
        config = ShakeConfig(
            shortest=length, longest=length, wobble=0, roll=0, perspective=0, highlights=1
        )
        path, _ = random_shake(config, draw(1))
        rows, columns = np.nonzero(motion_blur(dot, path)[0][..., 0] > 1)
        extent = np.hypot(np.ptp(rows), np.ptp(columns))
        assert extent == pytest.approx(length, abs=2.5)


def test_without_wobble_a_path_is_straight() -> None:
    path = random_camera_path(draw(2), 12.0, 0.0, wobble=0.0)
    assert np.hypot(path.dx[-1] - path.dx[0], path.dy[-1] - path.dy[0]) == pytest.approx(12.0)


def test_a_path_of_more_steps_is_the_same_curve() -> None:
    few, many = (random_camera_path(draw(3), 12.0, 0.3, steps=n) for n in (201, 401))
    np.testing.assert_allclose(few.dx, many.dx[::2], atol=0.05)
    np.testing.assert_allclose(few.roll, many.roll[::2], atol=0.005)
    with pytest.raises(ValueError, match="odd number of sub-frames"):
        random_camera_path(draw(3), 12.0, 0.3, steps=10)


def test_corners_that_a_large_turn_moves_far_are_smeared_and_not_doubled() -> None:
    path = random_camera_path(draw(8), 4.0, 4.0)
    assert path.stride(300, 400) > 1.5
    finer = path.resampled(101)
    assert finer.stride(300, 400) == pytest.approx(path.stride(300, 400) * 8 / 100, rel=0.05)
    assert finer.dx[50] == finer.dy[50] == finer.roll[50] == 0
    np.testing.assert_allclose(finer.roll[[0, -1]], path.roll[[0, -1]])
    # Few sub-frames draw a dot as separate dots, enough of them as a line without a gap.
    dot = np.zeros((300, 400, 3), np.uint8)
    dot[50, 60] = 255
    config = ShakeConfig(shortest=4, longest=4, roll=4, perspective=0, noise=0, highlights=1)
    coarse, _ = random_shake(config, draw(1))
    assert coarse.stride(300, 400) > 5
    drawn, ghosts = (
        np.diff(np.flatnonzero((seen[..., 0] > 1).any(axis=0)))
        for seen in (shake(dot, config, draw(1))[0], motion_blur(dot, coarse)[0])
    )
    assert drawn.max() == 1 < ghosts.max()


def test_no_perspective_at_0_and_none_in_the_middle_of_the_exposure() -> None:
    flat = random_camera_path(draw(4), 12.0, 0.3)
    still = CameraPath(flat.dx, flat.dy, flat.roll, 0 * flat.dx, 0 * flat.dx)
    np.testing.assert_allclose(views(still, 90, 120), views(flat, 90, 120), atol=1e-12)
    assert flat.is_flat and not random_shake(ShakeConfig(perspective=0), draw(4))[0].yaw
    tilted = random_camera_path(draw(4), 12.0, 0.3, yaw=2.0, pitch=1.0)
    assert np.array_equal(views(tilted, 90, 120)[steps_for(12.0) // 2], np.eye(3))
    # The draws of pan and tilt come last: the rest of the path is the same without them.
    assert np.array_equal(tilted.dx, flat.dx) and np.array_equal(tilted.roll, flat.roll)


def test_a_pan_keeps_the_centre_and_moves_the_sides_as_a_lens_does() -> None:
    zero, angle = np.zeros(1), 2.0
    view = views(CameraPath(zero, zero, zero, np.array([angle])), 300, 400)[0]
    np.testing.assert_allclose(view @ [0, 0, 1], [0, 0, 1], atol=1e-12)
    x, _, scale = view @ [200, 0, 1]
    turn, focal = np.deg2rad(angle), 400
    shifted = focal * np.tan(np.arctan(200 / focal) + turn) - focal * np.tan(turn)
    assert x / scale == pytest.approx(shifted)


def test_pillow_looks_where_the_views_say(photograph: np.ndarray) -> None:
    # Tiny tilts take the way through homographies and must agree with the affine way.
    flat = random_camera_path(draw(5), 9.0, 0.5)
    tilted = CameraPath(flat.dx, flat.dy, flat.roll, 1e-9 * flat.roll, None)
    affine, kept = motion_blur(photograph, flat)
    through, also = motion_blur(photograph, tilted)
    assert np.array_equal(kept, also)
    # Pillow rounds the places of its two ways apart; its sub-frames are cut to whole values.
    assert np.abs(affine - through).max() <= 1.0 and np.abs(affine - through).mean() < 0.05


def test_nothing_from_beyond_the_border_enters_a_tilted_pair() -> None:
    bright = np.full((120, 150, 3), 200, np.uint8)
    path = random_camera_path(draw(6), 2.0, 0.0, yaw=8.0, pitch=8.0)
    blurred, _ = motion_blur(bright, path)
    np.testing.assert_allclose(blurred, 200, atol=1.0)


@pytest.mark.parametrize("averaging", ["blur", "blur_gamma"])
def test_the_streak_of_a_lamp_stays_white_only_if_it_is_stretched(averaging: str) -> None:
    grey, _ = motion_blur(lamp(255), straight(15), averaging)  # type: ignore[arg-type]
    white, kept = motion_blur(lamp(255), straight(15), averaging, 4.0)  # type: ignore[arg-type]
    middle = grey.shape[0] // 2
    assert grey[middle].max() < 200
    assert white[middle, middle - 4 : middle + 5].min() == pytest.approx(255)
    assert white.max() == pytest.approx(255) and kept.max() == 255


def test_what_is_not_almost_white_is_not_stretched() -> None:
    plain, _ = motion_blur(lamp(245), straight(15), "blur_gamma")
    stretched, _ = motion_blur(lamp(245), straight(15), "blur_gamma", 4.0)
    assert np.array_equal(plain, stretched)


def test_an_even_field_keeps_its_brightness_but_for_five_levels_near_white() -> None:
    for value, largest in ((90, 0), (250, 0), (253, 5)):
        field = np.full((61, 61, 3), value, np.uint8)
        difference = motion_blur(field, straight(15), "blur", 3.0)[0] - value
        assert difference.min() >= 0 and difference.max() <= largest


def test_shot_noise_grows_with_light_and_noise_does_not() -> None:
    def deviations(noise: float, shot_noise: float = 0.0) -> list[float]:
        config = ShakeConfig(
            roll=0, perspective=0, highlights=1, longest=6, noise=noise, shot_noise=shot_noise
        )
        fields = [np.full((150, 150, 3), value, np.uint8) for value in (16, 64, 200)]
        return [float(np.std(shake(field, config, draw(7))[0])) for field in fields]

    assert deviations(noise=0) == [0, 0, 0]
    np.testing.assert_allclose(deviations(noise=4), 4, rtol=0.03)
    expected = 8 * np.sqrt(np.array([16, 64, 200]) / 255)
    np.testing.assert_allclose(deviations(noise=0, shot_noise=8), expected, rtol=0.03)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shortest": "9", "longest": "4"}, "shortest 9 is more than longest 4"),
        ({"averaging": "mean"}, "averaging = 'mean'.*'blur' or 'blur_gamma'"),
        ({"highlights": "0.5"}, "highlights = '0.5'.*greater than or equal to 1"),
        ({"lenght": "3"}, "unknown key 'lenght'"),
    ],
)
def test_a_configuration_out_of_range_is_refused(changed: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=f"the shake configuration is not valid: .*{said}"):
        build(ShakeConfig, changed, "shake configuration")
    assert build(ShakeConfig, {"longest": "12.5"}, "shake configuration") == ShakeConfig(
        longest=12.5
    )
