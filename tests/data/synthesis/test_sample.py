"""The sample data set."""

import json
from pathlib import Path

import pytest

from deblur.data.listing import find_pairs, find_splits
from deblur.data.synthesis import shake
from deblur.data.synthesis.sample import SampleConfig, build_sample
from deblur.data.synthesis.scenes import DRAWINGS, PHOTOGRAPHS
from deblur.data.synthesis.writing import PairWriter
from deblur.digests import file_sha256
from deblur.errors import DataError

ONE_FRAME = SampleConfig(frames=1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sample(tmp_path_factory.mktemp("sample") / "set", ONE_FRAME).root


def digests(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): file_sha256(p) for p in sorted(root.rglob("*.png"))}


def test_it_has_the_layout_of_gopro_and_splits_by_source_picture(sample: Path) -> None:
    scenes = {split: {p.scene for p in pairs} for split, pairs in find_splits(sample).items()}
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


def test_an_interrupted_build_goes_on_and_ends_with_the_same_pictures(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = shake.shake, 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shake, "shake", interrupted)
        build_sample(tmp_path / "set", ONE_FRAME)
    with pytest.raises(DataError, match="unfinished"):
        find_pairs(tmp_path / "set", "train")
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("sharp/*.png")}
    assert kept
    assert not build_sample(tmp_path / "set", ONE_FRAME).reused
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert digests(tmp_path / "set") == digests(sample)


def test_a_sample_of_another_configuration_is_made_anew(sample: Path, tmp_path: Path) -> None:
    build_sample(tmp_path / "set", SampleConfig(frames=1, seed=1))
    # As the first samples described themselves.
    old = {"kind": "simulated", "version": 1, "config": {}, "summary": {}}
    for described in (None, json.dumps(old)):
        if described:
            (tmp_path / "set" / "dataset.json").write_text(described)
        assert not build_sample(tmp_path / "set", ONE_FRAME).reused
        assert digests(tmp_path / "set") == digests(sample)


def test_a_simulated_set_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    PairWriter(tmp_path / "set", {"photos": 1})
    with pytest.raises(DataError, match="was made in another way"):
        build_sample(tmp_path / "set", ONE_FRAME)
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["dataset.json"]
