"""A process is known again by its start, and what it started by its mark."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deblur.local.processes import MARK, Identity, Stopping, alive, launch, marked, tail

SLEEPS = "import time; time.sleep(600)"
#: Starts a child that goes on when its parent is killed, and says so.
PARENT = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n"


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def start(folder: Path, code: str, part: str = "part") -> psutil.Popen:
    return launch([sys.executable, "-c", code], folder / "log", {}, str(folder), part)


def test_a_process_is_found_by_number_and_start_and_not_after_its_end(tmp_path: Path) -> None:
    process = start(tmp_path, SLEEPS)
    known = Identity.of(process)
    found = known.find()
    assert found is not None and found.pid == process.pid
    # Another process that got the same number later.
    assert known.model_copy(update={"started": known.started - 60}).find() is None
    process.kill()
    process.wait()
    assert known.find() is None


def test_a_child_is_found_after_its_parent_was_killed_and_ends_with_the_part(
    tmp_path: Path,
) -> None:
    parent = start(tmp_path, PARENT + "time.sleep(600)")
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPS], env={**os.environ, MARK: "other"})
    until(lambda: len(marked(str(tmp_path), "part")) == 2)
    parent.kill()
    parent.wait()
    (orphan,) = marked(str(tmp_path))
    assert marked(str(tmp_path), "another part") == []
    stopping = Stopping(None, str(tmp_path), "part", patience=0)
    stopping.wait()
    assert not alive(orphan)
    assert not stopping.killed
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot refuse to end")
def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    process = start(tmp_path, f"{deaf}\n{SLEEPS}")
    until(lambda: tail(tmp_path / "log") == ["deaf"])
    started = time.monotonic()
    stopping = Stopping(process, str(tmp_path), "part", patience=1.0)
    stopping.wait()
    assert stopping.killed
    assert 1.0 < time.monotonic() - started < 10
    assert process.poll() == -9


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_children_end_in_peace_before_a_parent_that_would_kill_them(tmp_path: Path) -> None:
    child = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.5); print('child is through', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('listening', flush=True)\n"
        "time.sleep(600)"
    )
    parent = (
        "import signal, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "def end(*_):\n"
        "    child.kill(); print('parent is through', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "import time; time.sleep(600)"
    )
    process = start(tmp_path, parent)
    until(lambda: tail(tmp_path / "log") == ["listening"])
    Stopping(process, str(tmp_path), "part", patience=20, children_first=True).wait()
    assert tail(tmp_path / "log") == ["listening", "child is through", "parent is through"]


def test_the_end_of_a_log_is_its_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n\ntwo  \n\nthree\n\n", encoding="utf-8")
    assert tail(log, 2) == ["two", "three"]
    assert tail(tmp_path / "none") == []
