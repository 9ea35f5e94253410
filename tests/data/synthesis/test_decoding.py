"""Reading videos."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur.data.synthesis.decoding import find_videos, open_video, read_frames
from deblur.errors import DataError, SetupError
from tests.data.synthesis.videos import encode, sample_video, sliding

#: FFmpeg's numbers.
BT709, BT601, LIMITED, FULL, PQ, HLG = 1, 5, 1, 2, 16, 18
COLOURS = np.array([[200, 30, 60], [20, 190, 90], [40, 60, 220], [128, 128, 128]], np.uint8)


def patches(height: int = 96, width: int = 160) -> np.ndarray:
    """Four upright bands of colour."""
    return np.repeat(np.repeat(COLOURS[None], height, 0), width // 4, 1)


def colours(rgb: np.ndarray) -> np.ndarray:
    width = rgb.shape[1] // 4
    return rgb[rgb.shape[0] // 2, width // 2 :: width]


def decoded(path: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in read_frames(open_video(path))]


def test_frames_come_back_as_they_were_with_their_times(tmp_path: Path) -> None:
    frames = list(sliding(24, 3))
    video = open_video(encode(tmp_path / "a.mp4", frames, 240))
    assert (video.codec, video.width, video.height, video.promised) == ("h264", 160, 96, 24)
    assert video.fps == pytest.approx(240.0)
    read = list(read_frames(video))
    np.testing.assert_array_equal([f.rgb for f in read], frames)
    np.testing.assert_allclose([f.time for f in read], np.arange(24) / 240, atol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "range_", "tagged", "height"),
    [
        (BT601, LIMITED, True, 96), (BT709, LIMITED, True, 96), (BT709, FULL, True, 96),
        (BT601, LIMITED, False, 96), (BT709, LIMITED, False, 720),
    ],
)  # fmt: skip
def test_colours_survive_every_matrix_and_range(
    tmp_path: Path, matrix: int, range_: int, tagged: bool, height: int
) -> None:
    """Without a tag, high definition is taken for BT.709 and the rest for BT.601."""
    tags: dict[str, Any] = {"colorspace": matrix} if tagged else {}
    path = encode(
        tmp_path / "a.mp4", [patches(height)] * 3, codec="libx264", pixels="yuv420p",
        options={"qp": "1"}, matrix=matrix, color_range=range_, **tags,
    )  # fmt: skip
    assert np.abs(colours(decoded(path)[0]).astype(int) - COLOURS).max() <= 3


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_a_turned_phone_gives_upright_pictures(tmp_path: Path, turn: int) -> None:
    upright = next(sliding(1, 0))
    stored = np.rot90(upright, -turn // 90)
    path = encode(tmp_path / "a.mp4", [stored] * 3, rotation=turn)
    video = open_video(path)
    assert (video.height, video.width) == upright.shape[:2]
    np.testing.assert_array_equal(decoded(path)[0], upright)


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_high_dynamic_range_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    path = encode(
        tmp_path / "hdr.mp4", sliding(3, 1), codec="libx264", pixels="yuv420p10le",
        color_trc=transfer,
    )  # fmt: skip
    with pytest.raises(DataError, match=f"hdr.mp4 has the transfer {name}.*BT.709 first"):
        open_video(path)


def test_10_bits_of_standard_range_are_reduced_to_8(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "a.mp4", [patches()] * 3, codec="libx264", pixels="yuv420p10le",
        options={"qp": "1"}, matrix=BT601, color_range=LIMITED,
    )  # fmt: skip
    assert np.abs(colours(decoded(path)[0]).astype(int) - COLOURS).max() <= 3


def test_interlaced_video_is_refused(tmp_path: Path) -> None:
    options = {"x264-params": "interlaced=1"}
    path = encode(tmp_path / "a.mp4", sliding(3, 1), codec="libx264", pixels="yuv420p",
                  options=options)  # fmt: skip
    with pytest.raises(DataError, match="interlaced"):
        open_video(path)


def test_the_rate_is_that_of_the_timestamps_not_of_the_header(tmp_path: Path) -> None:
    times = [8 * n for n in range(20)]
    video = open_video(encode(tmp_path / "a.mp4", sliding(20, 1), fps=240, times=times))
    assert video.fps == pytest.approx(30.0)


def test_gaps_and_rounded_timestamps_do_not_change_the_rate(tmp_path: Path) -> None:
    """Matroska rounds to milliseconds: 240 fps are steps of 4, 4 and 5."""
    times = [n + (200 if n > 30 else 0) for n in range(60)]
    video = open_video(encode(tmp_path / "a.mkv", sliding(60, 1), fps=240, times=times))
    assert video.fps == pytest.approx(240.0, rel=0.01)
    assert video.tick == 0.001


def test_frames_whose_times_run_backwards_are_refused(tmp_path: Path) -> None:
    """AVI numbers frames in the order in which they are stored."""
    path = encode(tmp_path / "a.avi", sliding(24, 2), codec="libx264", pixels="yuv420p",
                  options={"bf": "2"})  # fmt: skip
    with pytest.raises(
        DataError, match=r"is not after that of the one before.*convert it to \.mp4"
    ):
        open_video(path)


@pytest.mark.parametrize("content", [b"", b"three years of notes\n" * 40])
def test_what_is_not_a_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"notes\.mp4 cannot be opened as a video.*expected"):
        open_video(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    with pytest.raises(DataError, match="holds no video"):
        open_video(path)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_truncated_video_is_read_up_to_the_damage(tmp_path: Path, kind: str) -> None:
    frames = list(sliding(60, 3))
    whole = encode(tmp_path / f"whole.{kind}", frames, container={"movflags": "faststart"})
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = open_video(cut)
    read = [frame.rgb for frame in read_frames(video)]
    assert 10 < len(read) < 50
    assert video.promised == pytest.approx(60, abs=1)
    np.testing.assert_array_equal(read, frames[: len(read)])


def test_damage_in_the_middle_ends_the_video(tmp_path: Path) -> None:
    whole = sample_video("bikes")
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    damaged = tmp_path / "a.mp4"
    damaged.write_bytes(data)
    video = open_video(damaged)
    read = decoded(damaged)
    assert video.promised == 250 and 50 < len(read) < 200
    np.testing.assert_array_equal(read, decoded(whole)[: len(read)])


def test_large_frames_are_reduced_by_the_mean_over_areas(tmp_path: Path) -> None:
    frames = list(sliding(3, 5, 96, 160))
    video = open_video(encode(tmp_path / "a.mp4", frames))
    small = next(read_frames(video, longest_side=80)).rgb
    areas = frames[0].reshape(48, 2, 80, 2, 3).mean(axis=(1, 3))
    assert small.shape == (48, 80, 3)
    assert np.abs(small - areas).max() <= 0.5
    np.testing.assert_array_equal(next(read_frames(video, longest_side=160)).rgb, frames[0])


def test_a_folder_is_searched_and_two_videos_of_one_name_refused(tmp_path: Path) -> None:
    names = ["b.MP4", "a.mov", "inner/c.webm", "._b.mp4", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)]
    assert found == ["a.mov", "b.MP4", "inner/c.webm"]
    (tmp_path / "inner" / "B.mkv").touch()
    with pytest.raises(DataError, match=r"have one name.*rename one"):
        find_videos(tmp_path)


def test_a_source_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no video: expected files \.mp4"):
        find_videos(tmp_path)
    with pytest.raises(DataError, match="there is no video or folder"):
        find_videos(tmp_path / "missing")


def test_without_pyav_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SetupError, match=r"pip install -e '\.\[video\]'"):
        open_video(Path("any.mp4"))
