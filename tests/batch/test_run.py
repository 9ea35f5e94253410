"""A batch in this process: what is done, skipped, done again, and reported."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.batch import records as records_module
from deblur.batch import store
from deblur.batch.config import BATCH_FOLDER, BatchConfig, Shard
from deblur.batch.manifest import list_source
from deblur.batch.picture import place_in
from deblur.batch.records import Record, Records, read_records
from deblur.batch.report import BatchReport, merge_reports
from deblur.batch.run import run_shard
from deblur.errors import ConfigError, DataError, DeblurError, PictureError
from deblur.images import read_rgb, to_float, to_uint8
from deblur.predictors import open_predictor
from deblur.progress import Advance
from deblur.serving.engine import Engine
from deblur.serving.setting import write_setting
from tests.batch.folders import break_some, pictures_below, small_pictures
from tests.pictures import DESCRIPTION, exif_of


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> BatchConfig:
    """Eight pictures, a text and a target that does not exist."""
    small_pictures(tmp_path / "in", 8)
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    return BatchConfig(
        source=str(tmp_path / "in"), target=str(tmp_path / "out"), model=str(tiny_model)
    )


def changed(config: BatchConfig, **values: object) -> BatchConfig:
    return config.model_copy(update=values)


def counts(report: BatchReport) -> tuple[int, int, int, int]:
    return report.computed, report.skipped, report.failed, report.remaining


def test_every_picture_is_deblurred_under_its_own_name(config: BatchConfig) -> None:
    report = run_shard(config)
    assert counts(report) == (8, 0, 0, 0)
    assert (report.pictures, report.others) == (8, 1)
    assert report.megapixels == pytest.approx(8 * 64 * 48 / 1e6)
    source, target = Path(config.source), Path(config.target)
    assert pictures_below(target) == pictures_below(source)
    with open_predictor(config.model) as model:
        for name in pictures_below(source):
            expected = to_uint8(model.predict(to_float(read_rgb(source / name))))
            np.testing.assert_array_equal(read_rgb(target / name), expected)
        assert report.sha256 == model.identity


def test_format_alpha_and_metadata_stay(config: BatchConfig) -> None:
    source, target = Path(config.source), Path(config.target)
    pixels = Image.open(source / "day00/00000.png")
    clear = pixels.convert("RGBA")
    clear.putalpha(77)
    clear.save(source / "clear.webp", lossless=True)
    pixels.save(source / "photo.JPG", "JPEG", exif=exif_of(description="a house"))
    run_shard(config)
    clear, photo = Image.open(target / "clear.webp"), Image.open(target / "photo.JPG")
    assert (clear.format, photo.format) == ("WEBP", "JPEG")
    assert set(np.asarray(clear)[..., 3].ravel().tolist()) == {77}
    assert photo.getexif()[DESCRIPTION] == "a house"


def test_what_is_done_is_skipped_even_when_its_time_has_changed(config: BatchConfig) -> None:
    run_shard(config)
    os.utime(Path(config.source, "day00/00003.png"))
    written = {p: p.stat().st_mtime_ns for p in Path(config.target).rglob("*.png")}
    assert counts(run_shard(config)) == (0, 8, 0, 0)
    assert {p: p.stat().st_mtime_ns for p in Path(config.target).rglob("*.png")} == written


def test_what_has_changed_is_done_again(config: BatchConfig) -> None:
    run_shard(config)
    Image.new("RGB", (20, 10), "red").save(Path(config.source, "day00/00003.png"))
    Path(config.target, "day00/00004.png").unlink()
    Path(config.target, "day00/00005.png").write_bytes(b"cut")
    small_pictures(Path(config.source) / "more", 1)
    assert counts(run_shard(config)) == (4, 5, 0, 0)
    assert read_rgb(Path(config.target, "day00/00003.png")).shape == (10, 20, 3)


def test_another_model_does_all_of_them_again(config: BatchConfig, tiny_run: Path) -> None:
    run_shard(config)
    assert counts(run_shard(changed(config, model=str(tiny_run)))) == (8, 0, 0, 0)
    assert merge_reports(config).done == 8  # by the model that came last


def test_other_tiles_do_all_of_them_again_but_other_workers_none(
    config: BatchConfig, tmp_path: Path
) -> None:
    model = Path(shutil.copy(config.model, tmp_path / "model.onnx"))
    config = changed(config, model=str(model))
    run_shard(config)
    assert counts(run_shard(changed(config, workers=2))) == (0, 8, 0, 0)
    usual = Engine(model).setting
    write_setting(model, usual.model_copy(update={"overlap": 32}))
    assert usual.overlap != 32
    assert counts(run_shard(config)) == (8, 0, 0, 0)


def test_broken_pictures_are_reported_and_tried_again_once_mended(config: BatchConfig) -> None:
    names = pictures_below(Path(config.source))
    whole = {name: Path(config.source, name).read_bytes() for name in names[:5]}
    break_some(Path(config.source), names[:5])
    report = run_shard(config)
    assert counts(report) == (3, 0, 5, 0)
    assert [failure.name for failure in report.failures] == names[:5]
    said = " ".join(failure.sentence for failure in report.failures)
    for words in ("is empty", "is not a picture", "damaged or truncated", "400.0 megapixels"):
        assert words in said
    assert pictures_below(Path(config.target)) == names[5:]

    for name, content in whole.items():
        Path(config.source, name).write_bytes(content)
    assert counts(run_shard(config)) == (5, 3, 0, 0)


def test_the_shards_together_do_each_picture_once(config: BatchConfig) -> None:
    reports = [run_shard(config, Shard(index, 3)) for index in range(3)]
    assert sum(report.computed for report in reports) == 8
    assert max(report.computed for report in reports) < 8
    merged = merge_reports(changed(config, price_per_hour=36.0))
    assert (merged.done, merged.pictures, merged.remaining) == (8, 8, 0)
    assert merged.seconds == pytest.approx(sum(report.seconds for report in reports))
    assert merged.cost == pytest.approx(merged.seconds * 0.01)
    assert merged.cost_per_megapixel == pytest.approx(merged.seconds_per_megapixel * 0.01)
    written = json.loads(Path(config.target, BATCH_FOLDER, "report.json").read_text())
    assert written["done"] == 8 and written["shard"] == "all"
    # Another division does nothing twice.
    assert counts(run_shard(config)) == (0, 8, 0, 0)
    assert counts(run_shard(config, Shard(0, 1))) == (0, 8, 0, 0)


def test_a_merged_report_says_what_the_missing_shards_leave(config: BatchConfig) -> None:
    first = run_shard(config, Shard(0, 2))
    merged = merge_reports(config)
    assert (merged.done, merged.remaining) == (first.done, 8 - first.done)
    assert merged.remaining > 0


def test_shards_keep_to_the_first_listing_until_there_is_a_new_one(config: BatchConfig) -> None:
    list_source(config)
    small_pictures(Path(config.source) / "late", 1)
    assert sum(run_shard(config, Shard(index, 2)).pictures for index in (0, 1)) == 8
    list_source(config)
    assert sum(run_shard(config, Shard(index, 2)).pictures for index in (0, 1)) == 9


def test_pictures_of_somebody_else_are_not_replaced(config: BatchConfig) -> None:
    precious = Path(config.target, "day00/00002.png")
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    with pytest.raises(DeblurError, match=r"holds 1 pictures that no batch .* --overwrite"):
        run_shard(config)
    assert precious.read_bytes() == b"precious"
    assert run_shard(changed(config, overwrite=True)).done == 8
    assert read_rgb(precious).shape == (48, 64, 3)


def test_results_below_the_source_are_not_read_again(config: BatchConfig) -> None:
    inside = changed(config, target=str(Path(config.source, "results")))
    assert run_shard(inside).done == 8
    assert counts(run_shard(inside)) == (0, 8, 0, 0)


def test_source_and_target_are_two_folders_that_hold_pictures(config: BatchConfig) -> None:
    with pytest.raises(DeblurError, match="both source and target"):
        list_source(changed(config, target=config.source + "/"))
    with pytest.raises(DataError, match="there is no folder"):
        list_source(changed(config, source=config.source + "nowhere"))
    empty = Path(config.source).with_name("empty")
    empty.mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        list_source(changed(config, source=str(empty)))


def test_what_a_killed_process_left_half_written_is_removed(config: BatchConfig) -> None:
    left = Path(config.target, "day00/.00002.png.123.partial")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    foreign = left.with_name(".somebody.png.9.partial")
    foreign.write_bytes(b"of something else")
    run_shard(config)
    assert not left.exists()
    assert foreign.exists()


@pytest.mark.parametrize("text", ["4", "4/4", "-1/4", "a/b", "1/0", "/"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Shard.parse(text)


def test_a_pod_finds_its_shard_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert Shard.of_job(5) == Shard(3, 5) == Shard.parse("3/5")
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    with pytest.raises(ConfigError, match="--shard I/N"):
        Shard.of_job(5)


@pytest.mark.parametrize("name", ["/etc/x.png", "a/../../x.png", "..\\x.png", "C:/x.png"])
def test_no_name_leads_out_of_the_target(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match="might lead out"):
        place_in(tmp_path, name)


def record(name: str, at: float = 0.0) -> Record:
    return Record(name, "s", "d", "m", "t", 10, 0.5, 1.0, at)


def test_records_survive_torn_files_and_being_folded_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "_FOLD", 4)
    records = Records(tmp_path, Shard())
    for number in range(6):
        records.put(record(f"{number}.png", number))
    folder = tmp_path / "records"
    assert len(list((folder / "0-of-1").iterdir())) == 2
    assert len((folder / "0-of-1.jsonl").read_text().splitlines()) == 4
    records.put(record("1.png", 9.0))  # later than the folded one
    (folder / "0-of-1" / "torn.json").write_text('{"version": 1, "name": "7.p')
    again = Records(tmp_path, Shard())
    assert [r.name for r in again.all()] == [f"{number}.png" for number in range(6)]
    known = again.find("1.png")
    assert known is not None and known.at == 9.0
    again.fold()
    assert len((folder / "0-of-1.jsonl").read_text().splitlines()) == 6
    assert read_records(tmp_path)["1.png"].at == 9.0


def test_a_store_that_is_away_is_waited_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "PAUSES", (0.0, 0.0))
    tries: list[int] = []

    def away() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise DataError("s3://photos cannot be read")
        return "there"

    assert store.patiently(away, "read it") == "there"
    tries.clear()
    monkeypatch.setattr(store, "PAUSES", (0.0,))
    with pytest.raises(DataError, match="cannot be read"):
        store.patiently(away, "read it")
    assert len(tries) == 2


def test_a_full_disk_ends_it_with_a_sentence(
    config: BatchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "write_file", full)
    with pytest.raises(DataError, match="No space left on device; make room"):
        run_shard(config)


def test_the_progress_is_in_megapixels_and_ends_full(
    config: BatchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each picture had a megapixel for every hundred bytes.
    monkeypatch.setattr("deblur.batch.run._megapixels_per_byte", lambda config, todo: 0.01)
    told: list[tuple[str, int, list[int]]] = []

    class Noted:
        @contextmanager
        def task(self, name: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
            reached = [done]
            told.append((unit, total, reached))
            yield lambda steps=1, note="": reached.append(reached[-1] + steps)

    run_shard(config, progress=Noted())
    ((unit, total, reached),) = told
    size = sum(file.stat().st_size for file in Path(config.source).rglob("*.png"))
    assert unit == "megapixels" and total == round(size * 0.01)
    assert reached == sorted(reached) and reached[0] == 0 and reached[-1] == total
    assert len(set(reached)) > 8
