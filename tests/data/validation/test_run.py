"""Validation goes on where it was, reads any store, and refuses what has errors."""

import json
import math
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest

from deblur.data.listing import Pair, list_data
from deblur.data.validation import Finding, Validation, ValidationConfig, run, validate_data
from deblur.data.validation.measure import PairMeasures, measure
from deblur.errors import DataError
from deblur.images import read_rgb
from tests.data.validation.conftest import CROP, save


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pairs that were really measured, as they come."""
    seen: list[str] = []

    def counted(pair: Pair) -> PairMeasures:
        seen.append(str(pair.blur))
        return measure(pair)

    monkeypatch.setattr(run, "measure", counted)
    return seen


def flat_pairs(root: Path, **offsets: list[int]) -> Path:
    """Pairs that differ by a constant, so that their PSNR is known."""
    rng = np.random.default_rng(0)
    for split, values in offsets.items():
        for number, off in enumerate(values):
            sharp = rng.integers(60, 180, (48, 64, 3)).astype(np.float64)
            save(sharp + off, root / split / f"of-{split}" / "blur" / f"{number}.png")
            save(sharp, root / split / f"of-{split}" / "sharp" / f"{number}.png")
    return root


def test_mean_psnr_is_that_computed_by_hand(tmp_path: Path) -> None:
    validation = validate_data(flat_pairs(tmp_path, train=[5, 10], test=[1]), crop=48)
    assert validation.blurred_psnr == {
        "train": pytest.approx((34.151404 + 28.130804) / 2, abs=1e-4),
        "test": pytest.approx(48.130804, abs=1e-4),
    }
    assert validation.statistics["train"]["psnr"]["max"] == pytest.approx(34.151, abs=1e-3)
    assert validation.statistics["train"]["size"]["largest"] == [64, 48]


def test_faulty_pairs_do_not_count_in_the_mean(tmp_path: Path) -> None:
    root = flat_pairs(tmp_path, train=[5, 0, 10], test=[0])
    validation = validate_data(root, crop=48)
    assert [f.check for f in validation.errors] == ["identical", "identical"]
    assert validation.blurred_psnr["train"] == pytest.approx((34.151404 + 28.130804) / 2, abs=1e-4)
    assert math.isnan(validation.blurred_psnr["test"])


def test_the_report_for_programs_is_strict_json_with_all_that_was_found(
    root: Path, tmp_path: Path
) -> None:
    (root / "val" / "discs-3" / "blur" / "000001.png").write_bytes(b"")
    validation = validate_data(root, crop=CROP, out=tmp_path / "out")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    report = json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=refuse)
    assert report["usable"] is False
    assert report["pairs"] == {"train": 26, "val": 4, "test": 6}
    assert report["layout"] == "gopro"
    assert report["crop"] == CROP
    assert report["created"].endswith("+00:00")
    assert ValidationConfig(**report["config"]) == ValidationConfig()
    (finding,) = report["findings"]
    assert finding["check"] == "unreadable"
    assert finding["pictures"] == list(validation.findings[0].pictures)
    assert {key: len(values) for key, values in report["distributions"].items()} == {
        "psnr": 35, "level": 35, "sharpness": 35,
    }  # fmt: skip
    assert report["statistics"]["val"]["psnr"]["min"] > 10


def test_a_second_start_measures_only_what_has_changed(
    root: Path, tmp_path: Path, measured: list[str]
) -> None:
    first = validate_data(root, crop=CROP, out=tmp_path / "out")
    assert len(measured) == 36
    measured.clear()
    again = validate_data(root, crop=CROP, out=tmp_path / "out")
    assert measured == []
    assert again.statistics == first.statistics
    sharp = root / "train" / "discs-1" / "sharp" / "000003.png"
    shutil.copy(sharp, sharp.parent.parent / "blur" / "000003.png")
    (root / "test" / "discs-4" / "blur" / "000001.png").write_bytes(b"no picture")
    changed = validate_data(root, crop=CROP, out=tmp_path / "out")
    assert sorted(Path(file).parts[-3] for file in measured) == ["discs-1", "discs-4"]
    assert [f.check for f in changed.findings] == ["unreadable", "identical"]


def test_an_interrupted_start_is_taken_up_where_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    seen: list[str] = []

    def interrupted(pair: Pair) -> PairMeasures:
        if len(seen) >= 20:
            raise KeyboardInterrupt
        seen.append(str(pair.blur))
        return measure(pair)

    monkeypatch.setattr("deblur.cpus.usable_cpus", lambda: 1)
    monkeypatch.setattr(run, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        validate_data(root, crop=CROP, out=out)
    kept = (out / "measures.jsonl").read_text().splitlines()
    assert len(kept) == 20
    assert not (out / "report.json").exists()
    # As if the machine had gone down in the middle of a line.
    (out / "measures.jsonl").write_text("\n".join(kept)[:-40])
    rest: list[str] = []

    def counted(pair: Pair) -> PairMeasures:
        rest.append(str(pair.blur))
        return measure(pair)

    monkeypatch.setattr(run, "measure", counted)
    validation = validate_data(root, crop=CROP, out=out)
    assert len(rest) == 17
    assert set(rest) & set(seen) == {seen[-1]}
    assert validation.findings == ()
    lines = (out / "measures.jsonl").read_text().splitlines()
    assert len(lines) == 36
    assert all(json.loads(line)["measures"]["psnr"] > 10 for line in lines)


def test_measures_without_a_report_serve_as_reference(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    validate_data(root, crop=CROP, out=out)
    (out / "report.json").unlink()
    for file in root.rglob("*.png"):
        save(read_rgb(file) * 0.5, file)
    found = validate_data(root, crop=CROP, reference=out).findings
    assert {f.check for f in found} == {"drift"}


def test_a_reference_that_is_none_is_refused(clean_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no report of an earlier validation"):
        validate_data(clean_root, crop=CROP, reference=tmp_path)


@pytest.mark.parametrize("folder", ["nowhere", ""])
def test_missing_and_empty_folders_are_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError, match="expected"):
        validate_data(tmp_path / folder)


def test_a_data_set_in_a_store_is_checked_like_a_local_one(
    root: Path, tmp_path: Path, measured: list[str]
) -> None:
    from upath import UPath

    address = f"memory://{uuid.uuid4().hex}/pairs"
    for file in root.rglob("*.png"):
        remote = UPath(address) / file.relative_to(root).as_posix()
        remote.parent.mkdir(parents=True, exist_ok=True)
        remote.write_bytes(file.read_bytes())
    local = validate_data(root, crop=CROP)
    stored = validate_data(address, crop=CROP, out=tmp_path / "out")
    assert stored.findings == ()
    assert stored.statistics == local.statistics
    measured.clear()
    broken = list_data(address).splits["val"][0].blur
    broken.write_bytes(b"")
    again = validate_data(address, crop=CROP, out=tmp_path / "out")
    assert measured == [str(broken)]
    (finding,) = again.findings
    assert (finding.check, finding.pictures) == ("unreadable", (str(broken),))
    assert "cannot be read" in (tmp_path / "out" / "report.html").read_text()


def test_pictures_without_scenes_may_share_names_and_look_alike(
    clean_root: Path, tmp_path: Path
) -> None:
    """In ``train/blur/1.png`` and ``test/blur/1.png`` the number is no scene."""
    for split, scene in (("train", "discs-1"), ("test", "lettering-4")):
        for kind in ("blur", "sharp"):
            folder = tmp_path / split / kind
            shutil.copytree(next(clean_root.glob(f"*/{scene}")) / kind, folder)
    validation = validate_data(tmp_path, crop=CROP)
    assert validation.layout == "folders by split"
    assert validation.findings == ()


def validation_with(errors: int) -> Validation:
    return Validation(
        data="/data", subset="blur", layout="gopro", crop=64, config=ValidationConfig(),
        created="2026-01-01T00:00:00+00:00", pairs={"train": 40, "test": 2},
        scenes={"train": 1, "test": 1}, blurred_psnr={"train": 20.0, "test": 21.0},
        statistics={"train": {}, "test": {}}, report=Path("/out/report.html"),
        findings=(
            *(Finding("dark", "error", f"pair {n} is dark", "Do this.") for n in range(errors)),
            Finding("flat", "warning", "pair 0 is flat", "Do that."),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(("errors", "shown", "more"), [(1, 1, 0), (10, 10, 0), (13, 10, 3)])
def test_at_most_ten_errors_are_listed_and_the_rest_counted(
    errors: int, shown: int, more: int
) -> None:
    with pytest.raises(DataError) as raised:
        validation_with(errors).require_usable()
    first, *listed = str(raised.value).split("\n")
    counted = "1 error" if errors == 1 else f"{errors} errors"
    assert first == f"/data cannot be trained on, {counted} in 42 pairs:"
    assert listed.pop() == f"All of them, with pictures: {Path('/out/report.html')}"
    assert listed[:shown] == [f"  dark: pair {n} is dark. Do this." for n in range(shown)]
    assert listed[shown:] == ([f"  and {more} more"] if more else [])


def test_warnings_alone_do_not_refuse() -> None:
    validation = validation_with(0)
    validation.require_usable()
    assert len(validation.warnings) == 1
