"""The sample data set."""

import json
from pathlib import Path

import pytest

from deblur.data.layout import find_pairs
from deblur.data.sample import SampleConfig, build_sample
from deblur.data.scenes import DRAWINGS, PHOTOGRAPHS
from deblur.digests import file_sha256
from deblur.errors import DataError

ONE_FRAME = SampleConfig(frames=1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sample(tmp_path_factory.mktemp("sample") / "set", ONE_FRAME).root


def digests(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): file_sha256(p) for p in sorted(root.rglob("*.png"))}


def test_it_has_the_layout_of_gopro_and_splits_by_source_picture(sample: Path) -> None:
    scenes = {s: {p.scene for p in find_pairs(sample / s)} for s in ("train", "val", "test")}
    assert len(scenes["train"]) == 13
    assert scenes["test"] == {"astronaut", "coffee", "lettering-4"}
    assert not scenes["train"] & scenes["test"] and not scenes["train"] & scenes["val"]
    assert (sample / "train" / "china" / "blur" / "000001.png").is_file()


def test_it_is_a_function_of_the_seed(sample: Path, tmp_path: Path) -> None:
    again = build_sample(tmp_path / "again", ONE_FRAME).root
    assert digests(again) == digests(sample)
    other = build_sample(tmp_path / "other", SampleConfig(frames=1, seed=1)).root
    assert digests(other).keys() == digests(sample).keys()
    assert digests(other) != digests(sample)


def test_blurred_psnr_is_about_that_of_gopro(tmp_path: Path) -> None:
    summary = build_sample(tmp_path / "set", SampleConfig(frames=2))
    assert 24.5 < summary.blurred_psnr < 26.5


def test_a_second_build_keeps_what_is_there(sample: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in sample.rglob("*.png")}
    assert build_sample(sample, ONE_FRAME).reused
    assert {p: p.stat().st_mtime_ns for p in sample.rglob("*.png")} == before


def test_it_says_that_it_is_simulated_and_where_each_picture_comes_from(sample: Path) -> None:
    assert json.loads((sample / "dataset.json").read_text())["kind"] == "simulated"
    sources = (sample / "SOURCES.md").read_text(encoding="utf-8")
    for scene in (*PHOTOGRAPHS, *DRAWINGS):
        assert f"| {scene.name} | {scene.split} | {scene.credit} | {scene.licence} |" in sources


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(DataError, match="will not be overwritten"):
        build_sample(tmp_path, ONE_FRAME)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("deblur.data.sample._write_pair", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_sample(tmp_path / "set", ONE_FRAME)
    assert list(tmp_path.iterdir()) == []
