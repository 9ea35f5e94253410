"""Reading videos frame by frame: upright, 8-bit RGB, with the time that each frame was taken.

What would make averages of frames wrong is refused: high dynamic range and other transfer curves
than a gamma, interlaced frames, and frames without rising timestamps. The header's frame rate is
not believed; the frames' own timestamps are read.

A video that breaks off, as one does when a battery dies, is read up to the damage; ``promised``
says how many frames there should have been.
"""

import heapq
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deblur.data.synthesis.interpolation import load_cv2
from deblur.errors import DataError, SetupError

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")

#: H.273's codes of the transfers that a gamma of 2.2 does not undo.
_NOT_GAMMA = {
    8: "linear light", 9: "logarithmic", 10: "logarithmic",
    16: "PQ, as HDR10", 17: "SMPTE 428", 18: "HLG",
}  # fmt: skip
_BT601, _BT709 = 5, 1
_UNSPECIFIED = 2
#: Frames that are decoded for a first look.
_LOOK = 16
#: More than the 16 frames by which H.264 and HEVC may store frames out of order.
_REORDERED = 32


@dataclass(frozen=True)
class Video:
    """What is known of a video before its frames are read.

    Attributes:
        path: the file.
        codec: FFmpeg's name, as ``h264``.
        width, height: of the upright picture, in pixels.
        interval: usual time from one frame to the next, in seconds.
        tick: by how much rounding may shift a timestamp, in seconds.
        promised: frames that the file says it has.
    """

    path: Path
    codec: str
    width: int
    height: int
    interval: float
    tick: float
    promised: int

    @property
    def fps(self) -> float:
        """Frames a second, by the frames' own timestamps."""
        return 1.0 / self.interval


@dataclass(frozen=True)
class Frame:
    """One decoded frame: ``[H, W, 3]`` uint8, upright, and when it was taken, in seconds."""

    rgb: np.ndarray
    time: float


def holds_videos(source: Path) -> bool:
    """Whether ``source`` is a video, or a folder with one somewhere in it."""
    return any(
        path.suffix.lower() in SUFFIXES
        for path in (source.rglob("*") if source.is_dir() else (source,))
    )


def find_videos(source: Path) -> list[Path]:
    """The videos of a folder and the folders in it, sorted; or the one file.

    Raises:
        DataError: there is nothing of the kind, or two would share one name for their scenes.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"there is no video or folder {source}: expected {', '.join(SUFFIXES)}")
    found = sorted(
        path
        for path in source.rglob("*")
        # macOS leaves files ._NAME beside the real ones.
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise DataError(f"{source} holds no video: expected files {', '.join(SUFFIXES)}")
    by_stem: dict[str, Path] = {}
    for path in found:
        other = by_stem.setdefault(path.stem.casefold(), path)
        if other != path:
            raise DataError(
                f"{other} and {path} have one name, and scenes are named after their video: "
                "rename one"
            )
    return found


def open_video(path: Path) -> Video:
    """Look at a video: its timestamps, without decoding, and its first frames.

    Raises:
        DataError: not a video, or one that is refused; the message says why.
        SetupError: PyAV is missing.
    """
    times = _Times()
    with _container(path) as (container, stream):
        promised, hidden = stream.frames, 0
        seconds = (container.duration or 0) / 1e6
        tick, codec = float(stream.time_base), stream.codec_context.name
        for packet in _until_damage(container.demux(stream)):
            if packet.size == 0:
                continue
            if packet.pts is None:
                raise DataError(
                    f"{path} has frames without a timestamp, so their distance in time is not "
                    "known: convert it to .mp4 at its true frame rate"
                )
            hidden += packet.is_discard
            times.add(packet.pts)
    interval = times.interval() * tick
    # The container's length may be that of its sound, so it counts only without a better figure.
    promised = promised - hidden or math.floor(seconds / interval if interval else 0)
    guess = Video(path, codec, 0, 0, interval, tick, max(promised, times.count - hidden))
    height = width = 0
    for number, frame in enumerate(read_frames(guess)):
        height, width = frame.rgb.shape[:2]
        if number == _LOOK:
            break
    if times.count < 2 or height == 0:
        raise DataError(
            f"{path} holds {'no frame that can be decoded' if height == 0 else 'one frame'}: "
            "expected a video; copy it again if it was cut off"
        )
    return Video(path, codec, width, height, interval, tick, guess.promised)


def read_frames(video: Video, longest_side: int | None = None) -> Generator[Frame]:
    """The frames in order of time, one by one, up to the first that is damaged.

    Args:
        video: from ``open_video``.
        longest_side: pixels to which larger frames are reduced, by the mean over areas.

    Raises:
        DataError: a frame is refused; the message says why.
    """
    last = -math.inf
    with _container(video.path) as (container, stream):
        stream.thread_type = "AUTO"
        # Ends at errors that the decoder would otherwise hide with parts of other frames. Flipped
        # bits that still decode to something cannot be noticed.
        stream.codec_context.options = {"err_detect": "explode"}
        for number, frame in enumerate(_until_damage(container.decode(stream))):
            if frame.is_corrupt:
                return
            _require_usable(video.path, frame)
            if frame.pts is None or frame.pts <= last:
                raise DataError(
                    f"{video.path}: the time of frame {number + 1} is not after that of the one "
                    "before, so the frames' distance is not known: convert it to .mp4 at its true "
                    "frame rate"
                )
            last = frame.pts
            yield Frame(_upright_rgb(frame, longest_side), frame.pts * video.tick)


class _Times:
    """Usual distance of timestamps that come slightly out of order, in a fixed amount of memory."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[int] = []
        self._last: int | None = None
        self._steps: dict[int, int] = {}

    def add(self, time: int) -> None:
        self.count += 1
        heapq.heappush(self._waiting, time)
        if len(self._waiting) > _REORDERED:
            self._take()

    def interval(self) -> float:
        """The mean of the steps about the median one, so gaps do not count. 0 if unknown.

        A mean, since timestamps in whole milliseconds turn 240 fps into steps of 4, 4 and 5.
        """
        while self._waiting:
            self._take()
        total, passed, median = sum(self._steps.values()), 0, 0
        for step in sorted(self._steps):
            passed, median = passed + self._steps[step], step
            if 2 * passed >= total:
                break
        usual = {s: n for s, n in self._steps.items() if abs(s - median) <= 0.5 * median + 1}
        count = sum(usual.values())
        return sum(step * n for step, n in usual.items()) / count if count else 0.0

    def _take(self) -> None:
        time = heapq.heappop(self._waiting)
        if self._last is not None and time > self._last:
            step = time - self._last
            self._steps[step] = self._steps.get(step, 0) + 1
        self._last = time


@contextmanager
def _container(path: Path) -> Iterator[tuple[Any, Any]]:
    """The opened file and its video stream."""
    try:
        import av
    except ImportError as error:
        raise SetupError(
            f"reading videos needs PyAV, which cannot be imported ({error}): "
            "pip install -e '.[video]'"
        ) from None
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be opened as a video ({error}): expected a complete file of "
            f"{', '.join(SUFFIXES)}; copy it again if it was cut off"
        ) from None
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise DataError(f"{path} holds no video, only other streams: expected a video")
        yield container, stream


def _until_damage(items: Iterator[Any]) -> Iterator[Any]:
    import av

    while True:
        try:
            item = next(items)
        except (StopIteration, av.error.FFmpegError):
            return
        yield item


def _require_usable(path: Path, frame: Any) -> None:
    if transfer := _NOT_GAMMA.get(frame.color_trc):
        raise DataError(
            f"{path} has the transfer {transfer}: expected standard dynamic range, as the averages "
            "assume a gamma of 2.2; record without HDR or log, or convert it to BT.709 first"
        )
    if frame.interlaced_frame:
        raise DataError(
            f"{path} is interlaced, so each frame shows two moments: expected progressive frames; "
            "deinterlace it first"
        )


def _upright_rgb(frame: Any, longest_side: int | None) -> np.ndarray:
    """``[H, W, 3]`` uint8 of a decoded frame."""
    from av.video.reformatter import Interpolation

    matrix = None  # as the frame says
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        # What players do, and cameras expect of them: high definition is BT.709.
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
    converted = frame.reformat(
        format="rgb24", src_colorspace=matrix, interpolation=Interpolation.BICUBIC | exact
    )
    rgb = converted.to_ndarray()
    # FFmpeg gives the angle counter-clockwise, as NumPy takes it.
    rgb = np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
    height, width = rgb.shape[:2]
    if longest_side is None or max(height, width) <= longest_side:
        return rgb
    scale = longest_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cv2 = load_cv2()
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
