"""What results of stages are kept under, and when one is still good."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from components.validate import data_state
from pipelines.caching import Kept, bring, code_digest, keep, key


@dataclass(frozen=True)
class Report:
    """As a stage returns it."""

    page: str
    folder: str
    pairs: dict[str, int]
    sentences: tuple[str, ...]
    data_root: str


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    folder = tmp_path / "first"
    (folder / "below").mkdir(parents=True)
    page = folder / "below" / "report.html"
    page.write_text("all is well")
    report = Report(str(page), str(folder), {"train": 2}, ("well",), str(tmp_path / "firsts"))
    return keep(report, folder, [page])


def test_a_result_is_whole_until_its_files_change(kept: Kept) -> None:
    assert kept.is_whole()
    page = Path(kept.folder, "below", "report.html")
    page.write_text("another's report")
    assert not kept.is_whole()
    page.unlink()
    assert not kept.is_whole()


def test_a_result_stays_as_it_is_in_its_own_folder(kept: Kept) -> None:
    report = bring(kept, Path(kept.folder), Report)
    assert asdict(report) == {**kept.result, "sentences": ("well",)}
    assert isinstance(report.sentences, tuple)


def test_a_result_brings_its_files_into_another_folder(kept: Kept, tmp_path: Path) -> None:
    report = bring(kept, tmp_path / "second", Report)
    assert Path(report.page) == tmp_path / "second" / "below" / "report.html"
    assert Path(report.page).read_text() == "all is well"
    assert Path(report.folder) == tmp_path / "second"
    assert Path(report.data_root) == tmp_path / "firsts", "a name that only begins alike"
    assert kept.is_whole()


def test_a_key_depends_on_stage_code_and_what_was_read() -> None:
    assert key("evaluate", "a", 1) == key("evaluate", "a", 1)
    assert len({key("evaluate", "a", 1), key("export", "a", 1), key("evaluate", "a", 2)}) == 3
    assert len(code_digest()) == 64


def test_the_state_of_data_is_that_of_its_files_wherever_they_lie(
    root: Path, tmp_path: Path
) -> None:
    state = data_state(str(root))
    assert state == data_state(str(shutil.copytree(root, tmp_path / "elsewhere")))
    assert state is not None
    picture = next(root.rglob("blur/*.png"))
    os.utime(picture, ns=(0, picture.stat().st_mtime_ns + 1_000_000))
    touched = data_state(str(root))
    picture.unlink()  # its sharp one has no counterpart now
    assert len({state, touched, data_state(str(root))}) == 3
    lone = data_state(str(root))
    assert lone == data_state(str(shutil.copytree(root, tmp_path / "again")))
