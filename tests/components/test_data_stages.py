"""The first two stages: the gate, and what preparing says about versions."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from components.prepare import prepare
from components.validate import DataReport, require_usable, validate
from deblur.errors import ConfigError, DataError


def test_the_report_of_good_data_passes_the_gate(root: Path, tmp_path: Path) -> None:
    report = validate(str(root), str(tmp_path / "report"), crop=64)
    assert require_usable(report) is report
    assert report.pairs == {"train": 4, "val": 1, "test": 1}
    assert report.refusal == ""
    assert (tmp_path / "report" / "report.html").is_file()
    assert DataReport(**json.loads(json.dumps(dataclasses.asdict(report)))) == report


def test_the_report_of_bad_data_is_written_and_stops_at_the_gate(
    root: Path, tmp_path: Path
) -> None:
    broken = root / "train" / "masonry-train" / "blur" / "000001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    report = validate(str(root), str(tmp_path / "report"), crop=64)
    with pytest.raises(DataError, match="cannot be trained on, 1 error") as raised:
        require_usable(report)
    assert str(broken) in str(raised.value)
    assert "unreadable" in report.summary
    assert str(tmp_path / "report" / "report.html") in str(raised.value)
    assert json.loads((tmp_path / "report" / "report.json").read_text())["usable"] is False


def test_rules_reach_the_checks(root: Path, tmp_path: Path) -> None:
    report = validate(
        str(root), str(tmp_path / "report"), crop=64, checks={"psnr_low.threshold": 60}
    )
    assert report.warnings == 6
    with pytest.raises(ConfigError, match=r"unknown key 'psnr_low\.limit'"):
        validate(str(root), str(tmp_path / "report"), crop=64, checks={"psnr_low.limit": 60})


def test_preparing_tells_a_new_version_from_the_one_before(root: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "prepared")
    first = prepare(str(root), out)
    assert first.is_new
    assert first.previous == ""
    again = prepare(str(root), out)
    assert not again.is_new
    shutil.rmtree(root / "val")
    changed = prepare(str(root), out)
    assert changed.is_new
    assert (changed.previous, changed.digest != first.digest) == (first.digest, True)
