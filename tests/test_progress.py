"""What people see of long work."""

import io
import logging
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from deblur.progress import SILENT, BarProgress, LogProgress, Silent, for_terminal


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="deblur.progress")
    return caplog


def test_log_names_rate_time_left_and_note(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("train", 50, "steps") as advance:
        clock.now += 4.0
        advance(5)
        assert lines.messages == []  # not yet 10 seconds
        clock.now += 6.0
        advance(5, "loss 0.5")
    assert lines.messages == ["train: 10 of 50 steps, 1.0 a second, 0:40 left, loss 0.5"]


def test_log_lines_are_an_interval_apart(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("read", 1000, "pairs") as advance:
        for _ in range(45):
            clock.now += 1.0
            advance()
    assert [line.split(",")[0] for line in lines.messages] == [
        "read: 10 of 1000 pairs", "read: 20 of 1000 pairs",
        "read: 30 of 1000 pairs", "read: 40 of 1000 pairs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "expected"), [(0.5, "4.0 a second, 0:00 left"), (0.0, "0:00 left")]
)
def test_last_step_is_always_logged(
    lines: pytest.LogCaptureFixture, passed: float, expected: str
) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("write", 2, "files") as advance:
        advance()
        clock.now += passed
        advance()
    assert len(lines.messages) == 1
    assert lines.messages[0].startswith("write: 2 of 2 files, ")
    assert lines.messages[0].endswith(expected)


@pytest.mark.parametrize(
    ("total", "left"), [(11, "1:40 left"), (362, "1:00:10 left"), (8641, "24:00:00 left")]
)
def test_time_left_is_written_in_minutes_or_hours(
    lines: pytest.LogCaptureFixture, total: int, left: str
) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("train", total) as advance:
        clock.now += 10.0
        advance()
    assert lines.messages[0].endswith(left)


def drawn(name: str, steps: list[tuple[int, str]], total: int, unit: str) -> str:
    """The last state of a bar on a terminal of 120 columns."""
    progress = BarProgress()
    shown = io.StringIO()
    progress.console = Console(file=shown, force_terminal=True, width=120, color_system=None)
    with progress.task(name, total, unit) as advance:
        for count, note in steps:
            advance(count, note)
    return [line for line in shown.getvalue().splitlines() if name in line][-1]


def test_bar_shows_name_count_unit_rate_and_note() -> None:
    line = drawn("deblur", [(1, ""), (2, "bench.png")], 3, "pictures")
    assert "deblur" in line
    assert "━" * 28 in line
    assert "3/3 pictures" in line
    assert re.search(r"\d\.\d/s", line)
    assert "bench.png" in line


def test_bar_keeps_the_last_note() -> None:
    assert "bench.png" in drawn("deblur", [(1, "bench.png"), (1, "")], 2, "")


def test_bar_takes_a_note_before_the_first_step() -> None:
    line = drawn("train", [(0, "compiling")], 5, "steps")
    assert "0/5 steps" in line
    assert "compiling" in line
    assert "/s" not in line
    assert "each" not in line


@pytest.mark.parametrize("name", ["walk[edit].jpg", "[bold]", "[/red]"])
def test_bar_shows_square_brackets_of_names_as_they_are(name: str) -> None:
    assert drawn(f"deblur {name}", [(1, name)], 1, "").count(name) == 2


def test_bar_turns_slow_rates_round(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 105.0])
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr("deblur.progress.time", clock)
    assert "2.5 s each" in drawn("epoch", [(2, "")], 10, "epochs")


def test_bar_draws_on_standard_error() -> None:
    assert BarProgress().console.stderr


def test_silent_shows_nothing(
    lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with SILENT.task("train", 2, "steps") as advance:
        advance()
        advance(1, "note")
    assert isinstance(SILENT, Silent)
    assert lines.messages == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("terminal", "kind"), [(True, BarProgress), (False, LogProgress)])
def test_bars_are_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert type(for_terminal()) is kind
