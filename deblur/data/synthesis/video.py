"""Pairs made of videos, as GoPro was made: the mean of 7 to 13 frames of a 240 fps video is the
blurred picture, the middle frame the sharp one.

Nah, Kim and Lee, "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring",
CVPR 2017, section 2. Slower video is brought to 240 fps by optical flow first
(``deblur.data.synthesis.interpolation``); the sharp picture is always a frame that was recorded.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deblur.data.layout import SPLITS
from deblur.data.listing import DESCRIPTION, split_of
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import mean_frame
from deblur.data.synthesis.decoding import Frame, Video, find_videos, open_video, read_frames
from deblur.data.synthesis.windows import (
    FAST,
    REPEATED,
    STILL,
    UNEVEN,
    UNRELIABLE,
    Exposure,
    Refusal,
    VideoConfig,
    Window,
    cut_windows,
)
from deblur.data.synthesis.writing import PairWriter
from deblur.digests import file_sha256
from deblur.errors import DataError
from deblur.images import read_rgb
from deblur.metrics import psnr
from deblur.progress import SILENT, Advance, Progress

__all__ = ["VideoConfig", "VideoReport", "VideoSummary", "synthesize_videos"]

#: Raised whenever the same videos and configuration give other pixels than before.
VIDEO_VERSION = 1


@dataclass
class VideoReport:
    """What became of one video.

    Attributes:
        name: its path below the source folder.
        codec, width, height, fps: what was found; width and height upright, fps by timestamps.
        factor: sub-frames for each frame; above 1, the frames between are interpolated.
        frames: how many were read, of ``promised`` that the file says it has. Fewer, unless
            ``limit`` was reached, means that it is cut off or damaged from there on.
        scenes: shots, or parts of them.
        pairs: by split.
        skipped: windows that make no pair, by reason.
        refused: why it gave no pair at all; empty if it gave some.
    """

    name: str
    codec: str
    width: int
    height: int
    fps: float
    factor: int
    promised: int
    frames: int = 0
    scenes: int = 0
    pairs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    skipped: dict[str, int] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class VideoSummary:
    """What was made.

    Attributes:
        root: the data set's folder.
        pairs: by split.
        skipped: windows that make no pair, by reason.
        blurred_psnr: mean PSNR in dB of the blurred pictures, of the first averaging.
        interpolated: what was done to videos slower than the target; empty if nothing was.
        videos: one report each.
        reused: whether all was there already.
    """

    root: Path
    pairs: dict[str, int]
    skipped: dict[str, int]
    blurred_psnr: float
    interpolated: str
    videos: tuple[VideoReport, ...]
    reused: bool = False


def synthesize_videos(
    source: Path, out: Path, config: VideoConfig = VideoConfig(), progress: Progress = SILENT
) -> VideoSummary:
    """Make pairs of videos below ``out``, in the layout of GOPRO_Large.

    An interrupted run is taken up by the same call: pairs that are there are kept, and the result
    is the same to the byte. A folder's videos that give no pair are named in the summary with the
    reason. Besides a few frames more than a window takes, nothing is kept in memory.

    Args:
        source: a video, or a folder of them, with the folders in it.
        out: the folder to fill.
        config: which pairs.
        progress: shows the frames that were read.

    Raises:
        DataError: a file is not a video or one that cannot be averaged, no video gave a pair, or
            ``out`` holds something else.
        SetupError: PyAV or OpenCV is missing.
    """
    source = source.resolve()
    paths = find_videos(source)
    # All are looked at before the first pair is made: better now than in the middle of the night.
    videos, digests = [], []
    with progress.task("checking videos", len(paths), "videos") as advance:
        for path in paths:
            videos.append(open_video(path))
            digests.append(file_sha256(path))
            advance(1, path.name)
    base = source if source.is_dir() else source.parent
    reports = [_report(video, base, config) for video in videos]
    recipe = {
        "made from": "video",
        "version": VIDEO_VERSION,
        "config": config.model_dump(mode="json"),
        "interpolated": _interpolated(reports, config),
        "sources": [
            {
                "name": r.name, "sha256": digest, "fps": r.fps, "codec": r.codec,
                "size": [r.width, r.height], "interpolation factor": r.factor,
            }
            for r, digest in zip(reports, digests, strict=True)
        ],
    }  # fmt: skip
    writer = PairWriter(out, recipe)
    if writer.finished is not None:
        return _summary(out, writer.finished, reused=True)

    psnrs: list[float] = []
    for video, report in zip(videos, reports, strict=True):
        with progress.task(report.name, report.promised, "frames") as advance:
            _make_pairs(video, report, writer, config, psnrs, advance)
    if not psnrs:
        # Nothing was written but the beginning of a description, which would be in the way of the
        # next try with another configuration.
        (out / DESCRIPTION).unlink()
        with suppress(OSError):
            out.rmdir()
        raise DataError("; ".join(report.refused for report in reports))
    made = {
        "pairs": {split: sum(r.pairs[split] for r in reports) for split in SPLITS},
        "skipped": dict(sum((Counter(r.skipped) for r in reports), Counter())),
        "blurred_psnr": round(float(np.mean(psnrs)), 3),
        "interpolated": recipe["interpolated"],
        "videos": [asdict(report) for report in reports],
    }
    writer.finish(made, _sources(reports, digests, config))
    return _summary(out, made)


def _report(video: Video, base: Path, config: VideoConfig) -> VideoReport:
    return VideoReport(
        name=video.path.relative_to(base).as_posix(),
        codec=video.codec,
        width=video.width,
        height=video.height,
        fps=round(video.fps, 3),
        factor=config.factor(video.fps),
        promised=video.promised,
    )


def _make_pairs(
    video: Video,
    report: VideoReport,
    writer: PairWriter,
    config: VideoConfig,
    psnrs: list[float],
    advance: Advance,
) -> None:
    """Write the pairs of one video, and fill in its report."""
    refusals: dict[str, list[Refusal]] = {}
    exposure = Exposure(video, config)
    made = 0

    def scene_name(scene: int) -> str:
        return f"{video.path.stem}-cut{scene:02d}"

    def length(scene: int, number: int) -> int:
        rng = generator(config.seed, Stream.VIDEO, zlib.crc32(scene_name(scene).encode()), number)
        return int(rng.choice(config.lengths()))

    def counted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            report.frames += 1
            advance(1, f"{made} pairs")
            yield frame

    with closing(read_frames(video, config.longest_side)) as frames:
        for window in cut_windows(counted(frames), config, report.factor, length):
            report.scenes = max(report.scenes, window.scene)
            scene = scene_name(window.scene)
            split = split_of(scene, config.hold_out)
            result = _pair(writer, split, scene, window, exposure, config)
            if isinstance(result, Refusal):
                refusals.setdefault(result.reason, []).append(result)
                continue
            psnrs.append(result)
            report.pairs[split] += 1
            made += 1
            if made == config.limit:
                break
    report.skipped = {reason: len(refusals[reason]) for reason in sorted(refusals)}
    if not made:
        report.refused = _refused(report, refusals, config)


def _pair(
    writer: PairWriter,
    split: str,
    scene: str,
    window: Window,
    exposure: Exposure,
    config: VideoConfig,
) -> float | Refusal:
    """Write one pair if it is not there; the PSNR of its first average, or why there is none."""
    name = f"{window.number:06d}.png"
    sharp = window.frames[len(window.frames) // 2].rgb
    first = config.averagings[0]
    if writer.has(split, scene, name, config.averagings):
        return psnr(read_rgb(writer.root / split / scene / first / name), sharp)
    sub_frames = exposure.sub_frames(window)
    if isinstance(sub_frames, Refusal):
        return sub_frames
    blurred = {a: np.rint(mean_frame(sub_frames, a)).astype(np.uint8) for a in config.averagings}
    writer.write(split, scene, name, blurred, sharp)
    return psnr(blurred[first], sharp)


def _refused(report: VideoReport, refusals: dict[str, list[Refusal]], config: VideoConfig) -> str:
    """Why a video gave no pair: found, expected, what to do."""
    rate = f"{report.fps * report.factor:.0f} fps"
    if not refusals:
        return (
            f"{report.name} has {report.frames} frames at {report.fps:.4g} fps, in no scene enough "
            f"for a window of {config.shortest} to {config.longest} at {rate}: expected a longer "
            "shot"
        )
    total = sum(len(found) for found in refusals.values())
    reason, most = max(refusals.items(), key=lambda item: len(item[1]))
    others = ", ".join(f"{len(found)} {r}" for r, found in refusals.items() if r != reason)
    motions = [refusal.motion for refusal in most if refusal.motion is not None] or [0.0]
    low, high = min(motions), max(motions)
    detail = {
        FAST: f"motion of {low:.1f} to {high:.1f} px between sub-frames at {rate}, at most "
        f"{config.max_motion:g} is allowed, or edges would show as ghosts; record at a higher "
        "rate, move more slowly, or set longest_side to reduce the frames",
        STILL: f"motion of at most {high:.2f} px in a window, at least {config.min_motion:g} is "
        "expected, as what is not blurred teaches nothing; record with a moving camera",
        REPEATED: "frames that show the same as the one before, while others move, so it was "
        "brought to its rate by repetition; take the original, at the rate it was recorded with",
        UNEVEN: f"frames at other distances than {1000 / report.fps:.4g} ms; record with a fixed "
        "frame rate",
        UNRELIABLE: f"more than {config.max_unreliable:.0%} of the pixels in motion that forward "
        "and backward flow do not agree on; record at a higher rate or with more light",
    }[reason]
    return f"{report.name}: none of its {total} windows makes a pair. {len(most)} have {detail}" + (
        f" (the others: {others})" if others else ""
    )


def _interpolated(reports: list[VideoReport], config: VideoConfig) -> str:
    slower = sum(report.factor > 1 for report in reports)
    if not slower:
        return ""
    return (
        f"slower video brought to {config.target_fps:g} fps by optical flow: {slower} of "
        f"{len(reports)} videos, by the factor given with each; sharp pictures are recorded frames"
    )


def _sources(reports: list[VideoReport], digests: list[str], config: VideoConfig) -> str:
    rows = "\n".join(
        f"| {r.name.replace('|', '&#124;')} | {r.width}x{r.height} {r.codec} | {r.fps:g} | "
        f"{r.factor} | {r.frames} of {r.promised} | {sum(r.pairs.values())} | `{digest}` |"
        for r, digest in zip(reports, digests, strict=True)
    )
    text = (
        "# Sources of these pairs\n\n"
        f"The blur is **simulated**: the mean of {config.shortest} to {config.longest} consecutive "
        "frames, with the middle frame as the sharp picture.\n\n"
    )
    if interpolated := _interpolated(reports, config):
        text += f"{interpolated[0].upper()}{interpolated[1:]}.\n\n"
    return (
        f"{text}| video | picture | fps | interpolation factor | frames read | pairs | SHA-256 |\n"
        f"|---|---|---|---|---|---|---|\n{rows}\n"
    )


def _summary(root: Path, made: Mapping[str, Any], reused: bool = False) -> VideoSummary:
    videos = tuple(VideoReport(**report) for report in made["videos"])
    return VideoSummary(root=root, **{**made, "videos": videos}, reused=reused)
