"""Batches that are ended from outside, and go on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deblur.batch.config import BatchConfig
from deblur.batch.records import Record, read_records
from tests.batch.folders import break_some, pictures_below, small_pictures

pytestmark = pytest.mark.slow


def start(config: BatchConfig, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deblur", "batch", config.source, config.target]
    return subprocess.Popen(
        [*command, "--model", config.model, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def done(config: BatchConfig) -> dict[str, Record]:
    return {n: r for n, r in read_records(config.folder).items() if not r.error}


def wait_for_results(config: BatchConfig, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(pictures_below(Path(config.target))) < count:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.02)


def stamps(config: BatchConfig) -> dict[str, tuple[int, int]]:
    """Each result's inode and time: writing it again changes both."""
    found = {}
    for name in pictures_below(Path(config.target)):
        status = Path(config.target, name).stat()
        found[name] = status.st_ino, status.st_mtime_ns
    return found


def test_two_thousand_pictures_killed_three_times_are_each_done_once(
    tmp_path: Path, tiny_model: Path
) -> None:
    config = BatchConfig(
        source=str(tmp_path / "in"), target=str(tmp_path / "out"), model=str(tiny_model)
    )
    names = small_pictures(tmp_path / "in", 2000)
    bad = sorted(random.Random(1).sample(names, 20))
    break_some(tmp_path / "in", bad)
    moments = random.Random(2)
    recorded: dict[str, tuple[int, int]] = {}
    for _ in range(3):
        process = start(config)
        already = len(pictures_below(Path(config.target)))
        wait_for_results(config, already + moments.randint(50, 500), process)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate()
        there, known = stamps(config), done(config)
        assert known.keys() <= there.keys()
        # One computed, one before it and one behind it.
        assert len(there) - len(known) <= 3
        assert there.items() >= recorded.items()
        recorded = {name: there[name] for name in known}
    assert 150 <= len(recorded) < 1980

    process = start(config)
    said, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    now = len(names) - len(bad) - len(recorded)
    assert f"1980 of 2000 pictures are in {config.target} ({now} now" in said
    assert "20 failed" in said
    assert pictures_below(Path(config.target)) == sorted(set(names) - set(bad))
    assert stamps(config).items() >= recorded.items()
    failed = {name: r.error for name, r in read_records(config.folder).items() if r.error}
    assert sorted(failed) == bad
    assert all(len(sentence) > 20 for sentence in failed.values())
    assert list(Path(config.target).rglob("*.partial")) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")
@pytest.mark.parametrize(("asked", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order_and_the_same_command_goes_on(
    tmp_path: Path, tiny_model: Path, asked: signal.Signals, code: int
) -> None:
    config = BatchConfig(
        source=str(tmp_path / "in"), target=str(tmp_path / "out"), model=str(tiny_model)
    )
    names = small_pictures(tmp_path / "in", 500)
    process = start(config)
    wait_for_results(config, 20, process)
    process.send_signal(asked)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert "pictures done: the same command goes on" in log
    before = pictures_below(Path(config.target))
    assert sorted(done(config)) == before  # nothing in flight was lost
    assert 20 <= len(before) < 500
    said, log = (process := start(config, "--strict")).communicate(timeout=120)
    assert process.returncode == 0, log
    assert f"({500 - len(before)} now, {len(before)} before), 0 failed" in said
    assert pictures_below(Path(config.target)) == names
