"""What is put into an outbox arrives once and in order, or is reported as lost."""

import logging
import threading
import time

import pytest

from deblur import outbox
from deblur.outbox import Outbox


class Receiver:
    """Keeps what it is sent, and can be out of reach."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.attempts = 0
        self.away = False
        self.answers = threading.Event()
        self.answers.set()

    def take(self, items: list[int]) -> None:
        self.attempts += 1
        self.answers.wait()
        if self.away:
            raise ConnectionError("nobody\n  at home")
        self.calls.append(items)

    @property
    def items(self) -> list[int]:
        return [item for call in self.calls for item in call]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(outbox, "PAUSE", 0.02)
    caplog.set_level(logging.INFO, "deblur.outbox")


def eventually(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_waits_goes_in_few_calls_of_bounded_size_and_in_order() -> None:
    receiver = Receiver()
    receiver.answers.clear()
    box = Outbox("numbers", "the receiver", receiver.take, batch=10)
    box.put([0])
    eventually(lambda: receiver.attempts == 1)
    for number in range(1, 26):
        box.put([number])
    receiver.answers.set()
    assert box.flush(10)
    assert receiver.items == list(range(26))
    assert [len(call) for call in receiver.calls] == [1, 10, 10, 5]


def test_an_outage_costs_nothing_but_a_warning_and_a_line_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver()
    receiver.away = True
    box = Outbox("numbers", "the receiver", receiver.take, batch=3)
    for number in range(7):
        box.put([number])
    eventually(lambda: receiver.attempts > 4)
    assert not box.flush(0.1)
    receiver.away = False
    assert box.flush(10)
    assert receiver.items == list(range(7))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages == [
        "the receiver does not take numbers (nobody at home): they are kept, and sent when it does",
        "the receiver takes numbers again: 7 were kept, 0 dropped",
    ]

    receiver.away = True
    box.put([7])
    eventually(lambda: len(caplog.records) == 3)
    assert caplog.records[2].levelname == "WARNING", "a second outage is told as well"


def test_beyond_the_limit_the_oldest_are_dropped_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver()
    receiver.away = True
    box = Outbox("numbers", "the receiver", receiver.take, limit=3)
    box.put([0])
    eventually(lambda: receiver.attempts >= 1)
    for number in range(1, 9):
        box.put([number])
    receiver.away = False
    assert box.flush(10)
    assert receiver.items == [0, 6, 7, 8], "0 was on its way already"
    dropping = [text for text in caplog.messages if "the oldest are dropped" in text]
    assert dropping == ["more than 3 numbers wait for the receiver: the oldest are dropped"]
    assert "4 were kept, 5 dropped" in caplog.messages[-1]


def test_putting_never_waits_for_the_receiver() -> None:
    receiver = Receiver()
    receiver.answers.clear()
    box = Outbox("numbers", "the receiver", receiver.take)
    started = time.monotonic()
    for number in range(1000):
        box.put([number])
    assert time.monotonic() - started < 0.5
    receiver.answers.set()
    assert box.flush(10)
    assert receiver.items == list(range(1000))


def test_closing_waits_no_longer_than_told_and_says_what_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver()
    receiver.away = True
    box = Outbox("numbers", "the receiver", receiver.take, limit=3)
    box.put([0])
    eventually(lambda: receiver.attempts >= 1)
    box.put([1, 2, 3, 4])
    started = time.monotonic()
    box.close(0.2)
    assert 0.2 <= time.monotonic() - started < 2
    assert caplog.records[-1].levelname == "ERROR"
    assert caplog.messages[-1] == (
        "lost: 5 numbers, which the receiver did not take in the end (nobody at home)"
    )
    attempts = receiver.attempts
    time.sleep(0.1)
    assert receiver.attempts <= attempts + 1, "it goes on trying"
    with pytest.raises(RuntimeError, match="numbers after the end"):
        box.put([5])


def test_closing_what_was_never_used_takes_no_time_and_no_thread() -> None:
    before = threading.active_count()
    box = Outbox("numbers", "the receiver", Receiver().take)
    started = time.monotonic()
    box.close(10)
    assert time.monotonic() - started < 0.5
    assert threading.active_count() == before
