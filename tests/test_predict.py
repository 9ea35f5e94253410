"""Predicting files and folders, with a predict function that changes nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.errors import DeblurError, PictureError
from deblur.images import read_rgb
from deblur.predict import PredictReport, predict_files


def unchanged(planes: np.ndarray) -> np.ndarray:
    return planes


def negative(planes: np.ndarray) -> np.ndarray:
    return -planes


def failing(planes: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of memory")


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def pixels(photograph: np.ndarray) -> np.ndarray:
    """``[24, 33, 3]`` uint8."""
    return np.ascontiguousarray(photograph[50:74, 60:93])


@pytest.fixture
def blurry(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A folder of three pictures, one of them in a subfolder, and a text."""
    folder = tmp_path / "blurry"
    (folder / "walk" / "day1").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[::-1]).save(folder / "b.BMP")
    Image.fromarray(pixels[:, ::-1]).save(folder / "walk" / "day1" / "c.tif")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_file_is_deblurred_into_a_file(blurry: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    target = tmp_path / "new" / "result.png"
    assert predict_files(negative, blurry / "a.png", target) == PredictReport(1, 0, ())
    np.testing.assert_array_equal(read_rgb(target), 255 - pixels)


@pytest.mark.parametrize(
    ("suffix", "format"), [(".png", "PNG"), (".TIF", "TIFF"), (".jpeg", "JPEG"), (".webp", "WEBP")]
)
def test_the_target_suffix_chooses_the_format(
    blurry: Path, tmp_path: Path, suffix: str, format: str
) -> None:
    target = tmp_path / f"result{suffix}"
    predict_files(unchanged, blurry / "a.png", target)
    with Image.open(target) as written:
        assert written.format == format


def test_a_file_goes_into_a_folder_that_exists_under_its_own_name(
    blurry: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    assert predict_files(unchanged, blurry / "a.png", folder).written == 1
    np.testing.assert_array_equal(read_rgb(folder / "a.png"), pixels)
    with pytest.raises(DeblurError, match=r"a\.png exists: name another file"):
        predict_files(unchanged, blurry / "a.png", folder)


def test_a_folder_is_deblurred_with_its_subfolders_and_names(
    blurry: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    target = tmp_path / "results"
    assert predict_files(negative, blurry, target) == PredictReport(3, 0, ())
    assert files_below(target) == ["a.png", "b.BMP", "walk/day1/c.tif"]
    np.testing.assert_array_equal(read_rgb(target / "a.png"), 255 - pixels)
    np.testing.assert_array_equal(read_rgb(target / "b.BMP"), 255 - pixels[::-1])
    np.testing.assert_array_equal(read_rgb(target / "walk/day1/c.tif"), 255 - pixels[:, ::-1])


def test_an_existing_file_is_refused_without_overwrite(
    blurry: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    target = tmp_path / "result.png"
    target.write_bytes(b"precious")
    with pytest.raises(DeblurError, match=r"result\.png exists: name another file, or add --over"):
        predict_files(unchanged, blurry / "a.png", target)
    assert target.read_bytes() == b"precious"

    assert predict_files(unchanged, blurry / "a.png", target, overwrite=True).written == 1
    np.testing.assert_array_equal(read_rgb(target), pixels)


def test_existing_files_of_a_folder_are_skipped_or_overwritten(
    blurry: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "a.png").write_bytes(b"precious")
    assert predict_files(unchanged, blurry, target) == PredictReport(2, 1, ())
    assert (target / "a.png").read_bytes() == b"precious"
    assert predict_files(unchanged, blurry, target) == PredictReport(0, 3, ())

    assert predict_files(unchanged, blurry, target, overwrite=True) == PredictReport(3, 0, ())
    np.testing.assert_array_equal(read_rgb(target / "a.png"), pixels)


def test_one_damaged_picture_does_not_stop_the_others(blurry: Path, tmp_path: Path) -> None:
    whole = (blurry / "a.png").read_bytes()
    (blurry / "a2.png").write_bytes(whole[: len(whole) // 2])
    report = predict_files(unchanged, blurry, tmp_path / "results")
    assert (report.written, report.skipped) == (3, 0)
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"{blurry / 'a2.png'} is damaged or truncated")
    assert files_below(tmp_path / "results") == ["a.png", "b.BMP", "walk/day1/c.tif"]


def test_a_result_that_its_format_cannot_hold_does_not_stop_the_others(
    blurry: Path, tmp_path: Path
) -> None:
    # A JPEG has at most 65,535 columns.
    Image.new("RGB", (70_000, 1)).save(blurry / "a.png")
    (blurry / "a.png").rename(blurry / "a.jpg")
    report = predict_files(unchanged, blurry, tmp_path / "results")
    assert report.written == 2
    assert "cannot write 70000x1 pixels as JPEG" in report.problems[0]


def test_a_single_damaged_picture_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "damaged.png"
    source.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PictureError, match=r"damaged\.png cannot be opened as PNG"):
        predict_files(unchanged, source, tmp_path / "result.png")
    assert files_below(tmp_path) == ["damaged.png"]


@pytest.mark.parametrize("predict", [failing, lambda planes: planes[:, :, 1:]])
def test_a_failing_network_leaves_nothing_half_written(
    blurry: Path, tmp_path: Path, predict: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        predict_files(predict, blurry, tmp_path / "results")
    assert files_below(tmp_path) == [f"blurry/{name}" for name in files_below(blurry)]


def test_a_failing_disk_keeps_the_older_result(
    blurry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "a.png").write_bytes(b"older")
    write = Path.write_bytes

    def half_written(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(OSError, match="No space left"):
        predict_files(unchanged, blurry, target, overwrite=True)
    assert files_below(target) == ["a.png"]
    assert (target / "a.png").read_bytes() == b"older"


@pytest.mark.parametrize("name", ["result.gif", "result", "result.png.bak"])
def test_a_target_of_unknown_format_is_refused(blurry: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DeblurError, match=rf"format of .*{name}: end its name in \.avif, \.bmp"):
        predict_files(unchanged, blurry / "a.png", tmp_path / name)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match=r"no picture or folder .*missing\.png"):
        predict_files(unchanged, tmp_path / "missing.png", tmp_path / "result.png")


def test_a_folder_without_pictures_says_which_suffixes_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DeblurError, match=r"holds no pictures \(\.avif, \.bmp, \.heic"):
        predict_files(unchanged, tmp_path, tmp_path / "results")


def test_a_folder_into_a_file_is_refused(blurry: Path, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match=r"blurry is a folder but .*a\.png is a file: name a"):
        predict_files(unchanged, blurry, blurry / "a.png")


def test_a_folder_into_itself_is_refused(blurry: Path) -> None:
    before = (blurry / "a.png").read_bytes()
    with pytest.raises(DeblurError, match="both source and target: name another folder"):
        predict_files(negative, blurry, blurry, overwrite=True)
    assert (blurry / "a.png").read_bytes() == before


@pytest.mark.parametrize("relative", [False, True])
def test_a_target_inside_the_source_is_not_read_again(
    blurry: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(blurry.parent)
    source = Path("blurry") if relative else blurry
    target = blurry / "sharp"
    assert predict_files(negative, source, target) == PredictReport(3, 0, ())
    assert predict_files(negative, source, target) == PredictReport(0, 3, ())
    assert predict_files(negative, source, target, overwrite=True) == PredictReport(3, 0, ())
    assert files_below(target) == ["a.png", "b.BMP", "walk/day1/c.tif"]
    np.testing.assert_array_equal(read_rgb(target / "a.png"), 255 - pixels)


def test_a_target_around_the_source_is_no_obstacle(blurry: Path, tmp_path: Path) -> None:
    assert predict_files(unchanged, blurry, tmp_path) == PredictReport(3, 0, ())
    assert (tmp_path / "walk" / "day1" / "c.tif").is_file()
