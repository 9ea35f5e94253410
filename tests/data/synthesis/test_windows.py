"""Windows of frames, and whether they may be averaged."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deblur.data.synthesis.decoding import Frame
from deblur.data.synthesis.windows import GAP, VideoConfig, Window, cut_windows

FPS = 240.0


def filmed(*shots: tuple[int, int]) -> list[Frame]:
    """Shots of so many frames of one grey each, numbered by their times."""
    levels = [level for count, level in shots for _ in range(count)]
    return [Frame(np.full((36, 64, 3), g, np.uint8), n / FPS) for n, g in enumerate(levels)]


def windows(frames: list[Frame], length: int = 7, factor: int = 1, **config: Any) -> list[Window]:
    return list(cut_windows(frames, VideoConfig(**config), factor, lambda scene, number: length))


def numbers(window: Window) -> list[int]:
    return [round(frame.time * FPS) for frame in window.frames]


def test_windows_follow_each_other_without_overlap() -> None:
    found = windows(filmed((30, 90)))
    assert [numbers(w) for w in found] == [[*range(s, s + 7)] for s in (0, 7, 14, 21)]
    assert [(w.scene, w.number, w.first) for w in found] == [
        (1, 1, 0), (1, 2, 7), (1, 3, 14), (1, 4, 21),
    ]  # fmt: skip


def test_frames_are_read_no_further_than_the_window() -> None:
    frames = iter(filmed((30, 90)))
    first = next(cut_windows(frames, VideoConfig(), 1, lambda scene, number: 7))
    assert numbers(first) == [*range(7)]
    assert len(list(frames)) == 23


def test_a_stride_sets_the_distance_of_the_sharp_pictures() -> None:
    found = windows(filmed((12, 90)), stride=2)
    assert [numbers(w)[3] for w in found] == [3, 5, 7]


def test_no_window_crosses_a_cut() -> None:
    found = windows(filmed((17, 40), (10, 160), (5, 20), (8, 220)))
    assert [(w.scene, numbers(w)[0]) for w in found] == [(1, 0), (1, 7), (2, 17), (4, 32)]
    assert all(len({f.rgb[0, 0, 0] for f in w.frames}) == 1 for w in found)


def test_slow_video_needs_only_the_frames_about_the_sharp_one() -> None:
    found = windows(filmed((4, 90)), length=13, factor=8)  # 6 of 8 sub-frames to either side
    assert [numbers(w) for w in found] == [[0, 1, 2]]
    assert [len(w.frames) for w in windows(filmed((20, 90)), length=13, factor=3)] == [5, 5, 5, 5]


def test_a_long_shot_is_divided_with_a_rest_between_the_scenes() -> None:
    found = windows(filmed((1200, 90)), scene_seconds=1.0)
    assert {w.scene for w in found} == {1, 2, 3}
    for scene in (1, 2):
        last = max(w.frames[-1].time for w in found if w.scene == scene)
        following = min(w.frames[0].time for w in found if w.scene == scene + 1)
        assert following - last >= GAP


@given(
    shots=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    factor=st.integers(1, 10),
    stride=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_window_is_whole_and_in_one_scene(
    shots: list[int], factor: int, stride: int | None, seed: int
) -> None:
    frames = filmed(*((count, 40 + 150 * (n % 2)) for n, count in enumerate(shots)))
    draws = np.random.default_rng(seed).choice([7, 9, 11, 13], 400).tolist()
    config = VideoConfig(stride=stride)
    middles: dict[int, int] = {}
    for window in cut_windows(frames, config, factor, lambda scene, n: draws[n]):
        found = numbers(window)
        assert found == [*range(window.first, window.first + len(found))]
        assert len(found) == 2 * -(-window.half // factor) + 1
        assert len({f.rgb[0, 0, 0] for f in window.frames}) == 1
        assert 2 * window.half + 1 == draws[window.number]
        middle = found[len(found) // 2]
        assert middle > middles.get(window.scene, -1)
        middles[window.scene] = middle


@pytest.mark.parametrize(
    ("fps", "factor"),
    [(240, 1), (239.76, 1), (960, 1), (120, 2), (119.88, 2), (60, 4), (29.97, 8), (25, 10)],
)  # fmt: skip
def test_slower_video_is_brought_to_the_target(fps: float, factor: int) -> None:
    assert VideoConfig().factor(fps) == factor


def test_a_window_without_a_middle_is_refused() -> None:
    assert VideoConfig(shortest=6, longest=10).lengths() == [7, 9]
    with pytest.raises(ValidationError, match="no odd number from 8 to 8"):
        VideoConfig(shortest=8, longest=8)
    with pytest.raises(ValidationError, match="named twice"):
        VideoConfig(averagings=("blur", "blur"))
    with pytest.raises(ValidationError, match="shortes"):
        VideoConfig(shortes=7)  # type: ignore[call-arg]
