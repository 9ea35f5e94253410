"""Pairs made of videos."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur.data.layout import Averaging
from deblur.data.listing import find_splits
from deblur.data.pairs import data_kind
from deblur.data.synthesis.blur import GAMMA, mean_frame
from deblur.data.synthesis.decoding import open_video, read_frames
from deblur.data.synthesis.video import VideoConfig, VideoSummary, synthesize_videos
from deblur.data.synthesis.writing import PairWriter
from deblur.digests import file_sha256
from deblur.errors import DataError
from deblur.images import read_rgb
from deblur.metrics import psnr
from tests.data.synthesis.videos import encode, photograph, sample_video, sliding

#: Every scene into train, so that a test need not search.
SEVEN = VideoConfig(shortest=7, longest=7, hold_out=0.0)


def pictures(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): file_sha256(p) for p in sorted(root.rglob("*.png"))}


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 frames at 240 fps that move by a pixel each."""
    return encode(tmp_path_factory.mktemp("fast") / "slide.mp4", sliding(42, 1))


def test_the_blurred_picture_is_the_mean_of_the_frames_and_the_sharp_one_the_middle(
    fast: Path, tmp_path: Path
) -> None:
    summary = synthesize_videos(fast, tmp_path / "out", SEVEN)
    frames = np.array(list(sliding(42, 1)))
    scene = tmp_path / "out" / "train" / "slide-cut01"
    assert summary.pairs == {"train": 6, "val": 0, "test": 0}
    values = []
    for number in range(6):
        window, name = frames[7 * number : 7 * number + 7], f"{number + 1:06d}.png"
        blurred = read_rgb(scene / "blur" / name)
        np.testing.assert_array_equal(read_rgb(scene / "sharp" / name), window[3])
        np.testing.assert_array_equal(blurred, np.rint(window.mean(axis=0, dtype=np.float64)))
        light = ((window / 255.0) ** GAMMA).mean(axis=0)
        np.testing.assert_array_equal(
            read_rgb(scene / "blur_gamma" / name), np.rint(255.0 * light ** (1.0 / GAMMA))
        )
        values.append(psnr(blurred, window[3]))
    assert summary.blurred_psnr == pytest.approx(np.mean(values), abs=1e-3)
    report = summary.videos[0]
    assert (report.fps, report.factor, report.frames, report.promised) == (240.0, 1, 42, 42)
    assert summary.interpolated == "" and summary.skipped == {}


def test_the_result_is_a_data_set_that_says_it_is_simulated(fast: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthesize_videos(fast, out, SEVEN)
    assert data_kind(str(out)) == "simulated"
    subsets: tuple[Averaging, ...] = ("blur", "blur_gamma")
    for subset in subsets:
        assert [p.scene for p in find_splits(str(out), subset)["train"]] == ["slide-cut01"] * 6
    recipe = json.loads((out / "dataset.json").read_text())["recipe"]
    assert recipe["sources"][0]["sha256"] == file_sha256(fast)
    assert recipe["config"]["longest"] == 7
    assert f"| slide.mp4 | 160x96 h264 | 240 | 1 | 42 of 42 | 6 | `{file_sha256(fast)}` |" in (
        out / "SOURCES.md"
    ).read_text(encoding="utf-8")


def test_lengths_are_odd_between_the_bounds_and_follow_the_seed(
    fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    def noting(frames: list[np.ndarray], averaging: Averaging) -> np.ndarray:
        lengths.append(len(frames))
        return mean_frame(frames, averaging)

    monkeypatch.setattr("deblur.data.synthesis.video.mean_frame", noting)

    def drawn(seed: int, name: str) -> list[int]:
        lengths.clear()
        config = VideoConfig(seed=seed, averagings=("blur",), stride=4)
        synthesize_videos(fast, tmp_path / name, config)
        return list(lengths)

    first = drawn(0, "a")
    assert set(first) <= {7, 9, 11, 13} and len(set(first)) > 1
    assert drawn(0, "b") == first and pictures(tmp_path / "a") == pictures(tmp_path / "b")
    assert drawn(1, "c") != first


def test_a_jump_cut_starts_a_new_scene(tmp_path: Path) -> None:
    shots = [*sliding(20, 1), *sliding(17, 1, picture=photograph("coffee"))]
    out = tmp_path / "out"
    summary = synthesize_videos(encode(tmp_path / "mein Film é.mp4", shots), out, SEVEN)
    assert summary.videos[0].scenes == 2
    pairs = find_splits(str(out))["train"]
    assert [p.scene for p in pairs] == ["mein Film é-cut01"] * 2 + ["mein Film é-cut02"] * 2
    sharps = [shots[n] for n in (3, 10, 23, 30)]
    np.testing.assert_array_equal([read_rgb(Path(str(p.sharp))) for p in pairs], sharps)


def test_slower_video_is_interpolated_and_says_so(tmp_path: Path) -> None:
    """30 fps that move by 8 px a frame against the true 240 fps of 1 px a frame."""
    true, out = list(sliding(81, 1)), tmp_path / "out"
    video = encode(tmp_path / "slow.mp4", true[::8], fps=30)
    config = VideoConfig(shortest=13, longest=13, hold_out=0.0)
    summary = synthesize_videos(video, out, config)
    assert summary.videos[0].factor == 8 and summary.pairs["train"] == 5
    scene = out / "train" / "slow-cut01"
    for number in range(5):
        middle, name = 8 + 16 * number, f"{number + 1:06d}.png"
        np.testing.assert_array_equal(read_rgb(scene / "sharp" / name), true[middle])
        mean = np.rint(np.mean(true[middle - 6 : middle + 7], axis=0)).astype(np.uint8)
        assert psnr(read_rgb(scene / "blur" / name), mean) > 45.0
    said = "lower video brought to 240 fps by optical flow: 1 of 1"
    assert said in summary.interpolated
    assert said in (out / "SOURCES.md").read_text(encoding="utf-8")
    assert said in json.loads((out / "dataset.json").read_text())["recipe"]["interpolated"]


def refusal(
    tmp_path: Path, frames: Iterator[np.ndarray], config: VideoConfig = SEVEN, **encoding: Any
) -> str:
    video = encode(tmp_path / "clip.mp4", frames, **encoding)
    with pytest.raises(DataError) as error:
        synthesize_videos(video, tmp_path / "out", config)
    assert not (tmp_path / "out").exists(), "the next try would be refused"
    return str(error.value)


def test_fast_motion_is_refused_with_its_figure(tmp_path: Path) -> None:
    said = refusal(tmp_path, sliding(21, 9))
    found = re.search(r"motion of ([\d.]+) to ([\d.]+) px", said)
    assert found and 9.0 <= float(found[1]) <= float(found[2]) < 11.0
    assert "px between sub-frames at 240 fps, at most 2 is allowed" in said
    assert "record at a higher rate" in said


def test_a_still_video_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, sliding(21, 0))
    assert "motion of at most 0.00 px in a window, at least 3 is expected" in said


@pytest.mark.parametrize("lossless", [True, False])
def test_video_brought_to_its_rate_by_repetition_is_refused(tmp_path: Path, lossless: bool) -> None:
    repeated = (frame for frame in sliding(24, 4) for _ in range(3))
    lossy: dict[str, Any] = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "28"}}
    said = refusal(tmp_path, repeated, **({} if lossless else lossy))
    assert re.search(r"none of its (\d+) windows makes a pair. \1 have frames that show the", said)
    assert "brought to its rate by repetition" in said


def test_repetition_that_compression_hides_is_found_by_its_motion(tmp_path: Path) -> None:
    film = [frame.rgb for frame in read_frames(open_video(sample_video("bikes")), 320)][138:160]
    lossy: dict[str, Any] = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "23"}}
    config = VideoConfig(max_motion=3.0, stride=1)
    said = refusal(tmp_path, (f for f in film for _ in range(2)), config, fps=50, **lossy)
    assert re.search(r"none of its (\d+) windows makes a pair. \1 have frames that show the", said)


def test_a_variable_frame_rate_is_refused(tmp_path: Path) -> None:
    times = [2 * n + (n % 4 == 3) for n in range(28)]
    said = refusal(tmp_path, sliding(28, 1), fps=480, times=times)
    assert "4 have frames at other distances than" in said and "fixed frame rate" in said


def test_what_is_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    assert "has 6 frames at 240 fps, in no scene enough for a window" in refusal(
        tmp_path, sliding(6, 1)
    )


def test_motion_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    """A fifth of the picture shows something else in every frame, as flames or water do."""
    rng = np.random.default_rng(0)

    def boiling() -> Iterator[np.ndarray]:
        for frame in sliding(14, 1):
            boiled = frame.copy()
            boiled[:64, :48] = np.kron(rng.integers(90, 130, (16, 12, 3)), np.ones((4, 4, 1)))
            yield boiled

    config = SEVEN.model_copy(update={"max_motion": 100.0})
    said = refusal(tmp_path, boiling(), config)
    assert "2 have more than 5% of the pixels in motion that forward and backward flow" in said


def test_windows_are_skipped_and_counted_one_by_one(tmp_path: Path) -> None:
    calm, hasty = list(sliding(21, 1)), list(sliding(14, 6))
    frames = [*calm, *hasty[4:], *[hasty[-1]] * 14]
    summary = synthesize_videos(encode(tmp_path / "a.mp4", frames), tmp_path / "out", SEVEN)
    assert summary.pairs["train"] >= 2
    assert summary.skipped["motion too fast"] >= 1
    assert summary.skipped["too little motion"] >= 1
    kept = find_splits(str(tmp_path / "out"))["train"]
    assert len(kept) == sum(summary.pairs.values())


def test_a_folder_goes_on_past_a_video_without_pairs_and_names_it(
    fast: Path, tmp_path: Path
) -> None:
    source = tmp_path / "videos"
    source.mkdir()
    (source / "slide.mp4").write_bytes(fast.read_bytes())
    encode(source / "still.mov", sliding(14, 0))
    summary = synthesize_videos(source, tmp_path / "out", SEVEN)
    assert summary.pairs["train"] == 6
    slide, still = summary.videos
    assert slide.refused == "" and "still.mov: none of its 2 windows" in still.refused
    (source / "notes.mp4").write_text("three years")
    with pytest.raises(DataError, match=r"notes\.mp4 cannot be opened as a video"):
        synthesize_videos(source, tmp_path / "other", SEVEN)
    assert not (tmp_path / "other").exists()


def interrupt_after(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of writing a picture."""
    fromarray, calls = Image.fromarray, 0

    class Torn:
        def save(self, path: Path, **_: object) -> None:
            path.write_bytes(b"half a picture")
            raise KeyboardInterrupt

    def counting(pixels: np.ndarray) -> object:
        nonlocal calls
        calls += 1
        return Torn() if calls > 3 * pairs + 1 else fromarray(pixels)

    monkeypatch.setattr(Image, "fromarray", counting)


def test_an_interrupted_run_leaves_no_half_picture_and_is_taken_up_to_the_same_bytes(
    fast: Path, tmp_path: Path
) -> None:
    whole = synthesize_videos(fast, tmp_path / "whole", SEVEN)
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            synthesize_videos(fast, out, SEVEN)
    assert len(pictures(out)) == 2 * 3 + 1
    assert not [p for p in out.rglob("*") if "partial" in p.name]
    with pytest.raises(DataError, match="unfinished"):
        find_splits(str(out))
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("blur_gamma/*.png")}
    resumed = synthesize_videos(fast, out, SEVEN)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept and kept
    assert resumed.blurred_psnr == whole.blurred_psnr and resumed.videos == whole.videos
    assert pictures(out) == pictures(tmp_path / "whole")
    for name in ("dataset.json", "SOURCES.md"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_is_not_made_again(
    fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = synthesize_videos(fast, tmp_path / "out", SEVEN)
    monkeypatch.setattr(PairWriter, "write", lambda *_: pytest.fail("written again"))
    again = synthesize_videos(fast, tmp_path / "out", SEVEN)
    assert again.reused and again.videos == first.videos and again.pairs == first.pairs
    with pytest.raises(DataError, match="was made in another way"):
        synthesize_videos(fast, tmp_path / "out", VideoConfig())


def test_a_limit_ends_each_video(fast: Path, tmp_path: Path) -> None:
    config = SEVEN.model_copy(update={"limit": 2, "averagings": ("blur_gamma",)})
    summary = synthesize_videos(fast, tmp_path / "out", config)
    assert summary.pairs["train"] == 2 and summary.videos[0].frames == 14
    assert {p.parent.name for p in (tmp_path / "out").rglob("*.png")} == {"blur_gamma", "sharp"}


class Counting:
    """Adds up the steps of each task."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[int]] = {}

    @contextmanager
    def task(
        self, name: str, total: int, unit: str = "", done: int = 0
    ) -> Iterator[Callable[..., None]]:
        counted = self.tasks.setdefault(f"{name} ({unit})", [done, total])

        def advance(steps: int = 1, note: str = "") -> None:
            counted[0] += steps

        yield advance


def test_importing_it_loads_neither_decoder_nor_optical_flow_nor_torch() -> None:
    program = (
        "import deblur.data.synthesis.video, sys; "
        "print(sorted({'av', 'cv2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_progress_counts_frames(fast: Path, tmp_path: Path) -> None:
    progress = Counting()
    synthesize_videos(fast, tmp_path / "out", SEVEN, progress)
    assert progress.tasks == {"checking videos (videos)": [1, 1], "slide.mp4 (frames)": [42, 42]}


def test_a_film_of_25_fps_becomes_pairs(tmp_path: Path) -> None:
    source, out = sample_video("bikes"), tmp_path / "out"
    config = VideoConfig(longest_side=320, limit=12, averagings=("blur",))
    summary: VideoSummary = synthesize_videos(source, out, config)
    report = summary.videos[0]
    assert (report.fps, report.factor, report.promised) == (25.0, 10, 250)
    assert sum(summary.pairs.values()) == 12 and 30.0 < summary.blurred_psnr < 50.0
    frames = {f.rgb.tobytes() for f in read_frames(open_video(source), 320)}
    for pairs in find_splits(str(out)).values():
        assert all(read_rgb(Path(str(pair.sharp))).tobytes() in frames for pair in pairs)
