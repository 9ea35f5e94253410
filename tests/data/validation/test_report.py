"""The page shows what was found, needs nothing else, and takes any file name for text."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deblur.data.validation import validate_data
from deblur.data.validation.histogram import HEIGHT, WIDTH, histogram
from deblur.data.validation.report import markdown_summary
from tests.data.validation.conftest import CROP
from tests.data.validation.test_planted_faults import FAULTS

ODD = '<img src=x onerror=alert(1)> & "quoted"'


@pytest.fixture(scope="module")
def bad_page(clean_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bad")
    root = shutil.copytree(clean_root, folder / "pairs")
    for plant in FAULTS:
        plant(root)
    validate_data(root, crop=CROP, out=folder / "out")
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_a_clean_set_is_shown_by_examples(clean_root: Path, tmp_path: Path) -> None:
    validation = validate_data(clean_root, crop=CROP, out=tmp_path)
    assert validation.report == tmp_path / "report.html"
    page = validation.report.read_text(encoding="utf-8")
    assert "Usable: nothing was found wrong" in page
    assert page.count('src="data:image/jpeg;base64,') == 6
    for name in ("lowest PSNR", "median", "highest PSNR"):
        assert name in page
    assert page.count("<svg") == 3


def test_a_bad_set_is_shown_check_by_check(bad_page: str) -> None:
    assert re.search(r"Not usable: \d+ errors, \d+ warnings", bad_page)
    for check in ("unpaired", "unreadable", "swapped", "leakage", "duplicate", "psnr_outlier"):
        assert f'<h2 id="{check}">' in bad_page
    assert '<h2 id="drift">' not in bad_page
    assert "no counterpart" in bad_page
    assert "cannot be read" in bad_page
    assert bad_page.count("<path d=") == 2  # the two outliers among the PSNRs


def test_a_page_needs_nothing_but_itself(bad_page: str) -> None:
    without_pictures = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", bad_page)
    assert not re.search(r"https?://|<script|<link|@import|url\(", without_pictures)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
def test_odd_names_are_text_in_page_and_summary(root: Path, tmp_path: Path) -> None:
    odd = root / "train" / ODD.replace("/", "")
    (root / "train" / "discs-1").rename(odd)
    (odd / "blur" / "000001.png").write_bytes(b"")
    validation = validate_data(root, crop=CROP, out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &#34;quoted&#34;" in page
    summary = markdown_summary(validation)
    assert "<img" not in summary
    assert "&lt;img src=x" in summary


def test_the_summary_counts_what_was_found(root: Path) -> None:
    for frame in (1, 2):
        (root / "val" / "discs-3" / "blur" / f"{frame:06d}.png").write_bytes(b"")
    summary = markdown_summary(validate_data(root, crop=CROP))
    assert summary.startswith("# Not usable: 2 errors, 0 warnings\n")
    assert re.search(r"^\| val \| 4 \| 2 \| 2\d\dx1\d\d.* \| \d+\.\d\d dB \|$", summary, re.M)
    assert "| unreadable | error | 2 |" in summary
    assert all(line.count("|") in (0, 6) for line in summary.splitlines())


def test_bars_count_values_and_stand_inside_the_drawing() -> None:
    values = {"train": [(20.2, False), (20.9, False), (22.5, False), (60.0, True)], "val": []}
    train, val = histogram(values)
    assert [bar.title for bar in train.bars] == [
        "20 to 21 dB: 2", "22 to 23 dB: 1", "60 to 61 dB: 1",
    ]  # fmt: skip
    assert [bar.height for bar in train.bars] == [HEIGHT, HEIGHT / 2, HEIGHT / 2]
    assert train.bars[-1].x + train.bars[-1].width == pytest.approx(WIDTH)
    assert train.outliers == (pytest.approx(40 / 41 * WIDTH),)
    assert val.bars == ()
    assert histogram({"train": []}) == []


def test_importing_the_package_loads_no_template_engine() -> None:
    program = "import sys, deblur.data.validation; print({'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
