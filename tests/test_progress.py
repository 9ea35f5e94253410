"""What people see of long work."""

import io
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from deblur.progress import (
    SILENT,
    BarProgress,
    LogProgress,
    Progress,
    Silent,
    StderrHandler,
    for_terminal,
)


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
    ("passed", "expected"), [(65.0, "32.5 s each, took 1:05"), (0.5, "4.0 a second, took 0:00"),
                             (0.0, "took 0:00")]
)  # fmt: skip
def test_last_step_is_always_logged(
    lines: pytest.LogCaptureFixture, passed: float, expected: str
) -> None:
    clock = Clock()
    with LogProgress(interval=100.0, clock=clock).task("write", 2, "files") as advance:
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


def test_log_says_no_rate_and_no_time_left_before_the_first_step(
    lines: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("train", 50) as advance:
        clock.now += 10.0
        advance(0, "compiling")
    assert lines.messages == ["train: 0 of 50, compiling"]


def test_log_of_a_task_begun_earlier_has_the_rate_of_what_is_done_now(
    lines: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    with LogProgress(interval=10.0, clock=clock).task("train", 50, "steps", done=30) as advance:
        clock.now += 10.0
        advance(5)
    assert lines.messages == ["train: 35 of 50 steps, 2.0 s each, 0:30 left"]


def test_log_leaves_out_a_short_task_within_another(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    progress = LogProgress(interval=10.0, clock=clock)
    with progress.task("train", 2, "steps") as advance:
        for seconds in (1.0, 6.0):  # for each of two pictures
            clock.now += 9.0
            advance()
            with progress.task("validation", 2, "pictures") as advance_inner:
                for _ in range(2):
                    clock.now += seconds
                    advance_inner()
    with progress.task("write", 1, "files") as advance:
        advance()
    assert lines.messages == [
        "train: 2 of 2 steps, 10.0 s each, took 0:20",
        "validation: 2 of 2 pictures, 6.0 s each, took 0:12",
        "write: 1 of 1 files, 1000000000.0 a second, took 0:00",
    ]


class Terminal(Console):
    """A terminal that remembers what it was sent."""

    def __init__(self, width: int = 120) -> None:
        super().__init__(file=io.StringIO(), force_terminal=True, width=width, color_system=None)

    def sent(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


def on_screen(sent: str) -> list[str]:
    """The lines that a terminal shows after it was sent this."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", sent):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif re.fullmatch(r"\x1b\[\d+A", part):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            rows[row] = ""
        elif not part.startswith("\x1b"):  # what remains shows and hides the cursor
            before = rows[row].ljust(column)
            rows[row] = before[:column] + part + before[column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in rows if line.strip()]


def drawn(
    name: str, steps: list[tuple[int, str]], total: int, unit: str, done: int = 0, each: float = 0.1
) -> str:
    """The last state of a bar on a terminal of 150 columns, ``each`` seconds a call."""
    clock = Clock()
    progress = BarProgress(clock)
    progress.console = terminal = Terminal(width=150)
    with progress.task(name, total, unit, done) as advance:
        for count, note in steps:
            clock.now += each
            advance(count, note)
    (line,) = on_screen(terminal.sent())
    return line


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


def test_bar_turns_slow_rates_round() -> None:
    assert "2.5 s each" in drawn("epoch", [(2, "")], 10, "epochs", each=5.0)


def test_bar_says_how_long_is_left_and_at_the_end_how_long_it_took() -> None:
    assert "2/10 epochs 2.5 s each 0:20 left" in drawn("epoch", [(2, "")], 10, "epochs", each=5.0)
    assert "2/2 epochs 32.5 s each took 1:05" in drawn("epoch", [(2, "")], 2, "epochs", each=65.0)


def test_bar_begun_earlier_starts_there_with_the_rate_of_what_is_done_now() -> None:
    assert " 900/1000 steps" in drawn("train", [], 1000, "steps", done=900)
    line = drawn("train", [(10, "")] * 4, 1000, "steps", done=900, each=5.0)
    assert " 940/1000 steps 2.0/s 0:30 left" in line
    assert line.count("━") == 26  # of 28


@pytest.mark.parametrize(("width", "bar"), [(80, 16), (100, 20), (150, 28)])
def test_in_a_narrow_terminal_the_bar_is_short_and_the_note_is_cut(width: int, bar: int) -> None:
    clock = Clock()
    progress = BarProgress(clock)
    progress.console = terminal = Terminal(width)
    with progress.task("validation", 1111, "pictures") as advance:
        clock.now += 1.0
        advance(10, "GOPR0384_11_00/000010.png" * 4)
    (line,) = on_screen(terminal.sent())
    assert re.match(r"validation [━╸╺ ]+   10/1111 pictures 10.0/s 1:50 left GOPR", line)
    assert len(line.split("   10/")[0].removeprefix("validation ")) == bar
    assert len(line) == width and line.endswith("…")


def test_an_inner_bar_is_drawn_below_the_outer_one_and_disappears_when_it_ends() -> None:
    clock = Clock()
    progress = BarProgress(clock)
    progress.console = terminal = Terminal()

    def screen() -> list[str]:
        assert progress._display
        progress._display.refresh()
        return [re.sub(r"[━╸╺ ]+", " ", line) for line in on_screen(terminal.sent())]

    with progress.task("training", 2000, "steps") as advance:
        for epoch in (1, 2):
            clock.now += 10.0
            advance(1000, f"epoch {epoch}")
            assert len(screen()) == 1
            with progress.task("validation", 4, "pictures") as advance_inner:
                clock.now += 10.0
                advance_inner(3, "walk.png")
                outer, inner = screen()
            assert inner == "validation 3/4 pictures 3.3 s each 0:03 left walk.png"
            if epoch == 1:
                assert outer == "training 1000/2000 steps 100.0/s 0:10 left epoch 1"
    last = "training 2000/2000 steps 66.7/s took 0:30 epoch 2"
    assert [re.sub(r"[━ ]+", " ", line) for line in on_screen(terminal.sent())] == [last]


def test_bars_after_each_other_all_stay() -> None:
    progress = BarProgress()
    progress.console = terminal = Terminal()
    for name in ("prepare", "digests"):
        with progress.task(name, 1) as advance:
            advance()
    assert [line.split()[0] for line in on_screen(terminal.sent())] == ["prepare", "digests"]


def test_an_error_in_an_inner_task_ends_the_display() -> None:
    progress = BarProgress()
    progress.console = terminal = Terminal()
    with (
        pytest.raises(OSError, match="disk full"),
        progress.task("training", 2),
        progress.task("validation", 2),
    ):
        raise OSError("disk full")
    assert [line.split()[0] for line in on_screen(terminal.sent())] == ["training"]
    assert terminal.sent().endswith("\x1b[?25h")  # the cursor is shown again


@pytest.mark.parametrize("kind", [BarProgress, LogProgress])
def test_threads_may_advance_side_by_side(
    kind: type[BarProgress] | type[LogProgress], lines: pytest.LogCaptureFixture
) -> None:
    progress: Progress = kind(clock=Clock())
    if isinstance(progress, BarProgress):
        progress.console = terminal = Terminal()
    with progress.task("read", 2000, "pairs") as advance, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: advance(), range(2000)))
    said = terminal.sent() if isinstance(progress, BarProgress) else lines.messages[-1]
    assert re.search("2000(/| of )2000 pairs", said)


def screen_with_logging(monkeypatch: pytest.MonkeyPatch, handler: type[logging.Handler]) -> str:
    """What is on the screen when a line is logged while a bar is drawn."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logger = logging.Logger("of this test")
    logger.addHandler(handler())
    progress = BarProgress()
    progress.console = Console(stderr=True, force_terminal=True, width=60, color_system=None)
    logger.warning("before")
    with progress.task("deblur", 2) as advance:
        advance()
        logger.warning("a picture is odd")
        advance()
    logger.warning("after")
    assert sys.stderr is stream
    return "\n".join(line.split(" ━")[0] for line in on_screen(stream.getvalue()))


@pytest.mark.parametrize(
    ("handler", "whole"), [(StderrHandler, True), (logging.StreamHandler, False)]
)
def test_log_lines_stand_above_the_bars_and_the_usual_handler_would_tear_them(
    monkeypatch: pytest.MonkeyPatch, handler: type[logging.Handler], whole: bool
) -> None:
    screen = screen_with_logging(monkeypatch, handler)
    assert (screen == "before\na picture is odd\ndeblur\nafter") is whole


def test_the_command_line_logs_above_the_bars() -> None:
    program = (
        "import logging, deblur.cli, deblur.progress\n"
        "deblur.cli.main(verbose=False)\n"
        "(handler,) = logging.getLogger().handlers\n"
        "print(isinstance(handler, deblur.progress.StderrHandler))\n"
        "logging.getLogger('deblur').info('read')\n"
        "logging.getLogger('elsewhere').info('not read')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO read\n", done.stderr)


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
