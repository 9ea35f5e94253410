"""Things sent by a thread, in order, also when their receiver is out of reach for a while."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

#: Start of the names of the threads that send.
THREAD = "outbox"
#: Seconds between two attempts during an outage.
PAUSE = 5.0

T = TypeVar("T")


class Outbox(Generic[T]):
    """A queue that a thread of its own empties.

    What could not be sent is tried again, in order, until it is: an outage costs a warning at its
    beginning and a line at its end. The thread starts with the first item and does not keep the
    process alive.

    Args:
        what: what it sends, in the plural, and ``to`` whom: words for the log.
        send: takes the oldest items. Whatever ``Exception`` it raises is an outage, after which it
            is given the same items again.
        batch: most items in a call of ``send``.
        limit: most items that wait; beyond that the oldest are dropped, with a warning.
    """

    def __init__(
        self,
        what: str,
        to: str,
        send: Callable[[list[T]], None],
        *,
        batch: int = 1,
        limit: int | None = None,
    ) -> None:
        self._what, self._to = what, to
        self._send = send
        self._batch, self._limit = batch, limit
        self._waiting: deque[T] = deque()
        self._taken = 0  # items ever put, and those of them that are sent or dropped
        self._settled = 0
        self._dropped = 0  # in this outage
        self._outage: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, items: Sequence[T]) -> None:
        """Have the items sent; returns at once.

        Raises:
            RuntimeError: the outbox is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError(f"{self._what} after the end")
            self._waiting.extend(items)
            self._taken += len(items)
            while self._limit is not None and len(self._waiting) > self._limit:
                if not self._dropped:
                    log.warning(
                        "more than %d %s wait for %s: the oldest are dropped",
                        self._limit, self._what, self._to,
                    )  # fmt: skip
                self._waiting.popleft()
                self._dropped += 1
                self._settled += 1
            if self._thread is None:
                name = f"{THREAD}: {self._what}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for what was put so far; whether all of it is sent."""
        with self._changed:
            taken = self._taken
            return self._changed.wait_for(lambda: self._settled >= taken, timeout)

    def close(self, timeout: float) -> None:
        """Flush and end the thread; an error in the log says what could not be sent."""
        self.flush(timeout)
        with self._changed:
            self._closed = True
            lost = self._taken - self._settled + self._dropped
            self._changed.notify_all()
        if lost:
            log.error(
                "lost: %d %s, which %s did not take in the end (%s)",
                lost, self._what, self._to,
                _brief(self._outage) if self._outage else "no answer yet",
            )  # fmt: skip

    def _work(self) -> None:
        while items := self._next():
            while not self._sent(items):
                with self._changed:
                    if self._changed.wait_for(lambda: self._closed, PAUSE):
                        return
            with self._changed:
                self._settled += len(items)
                self._changed.notify_all()

    def _next(self) -> list[T]:
        """The oldest items, waited for; none when the outbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            count = 0 if self._closed else min(self._batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _sent(self, items: list[T]) -> bool:
        try:
            self._send(items)
        except Exception as error:
            if self._outage is None:
                log.warning(
                    "%s does not take %s (%s): they are kept, and sent when it does",
                    self._to, self._what, _brief(error),
                )  # fmt: skip
            self._outage = error
            return False
        if self._outage is not None:
            with self._changed:
                kept, dropped = len(items) + len(self._waiting), self._dropped
                self._dropped = 0
            self._outage = None
            log.info(
                "%s takes %s again: %d were kept, %d dropped", self._to, self._what, kept, dropped
            )
        return True


def _brief(error: Exception) -> str:
    """One line: a database shows its whole statement."""
    return shorten(str(error), 300, placeholder=" ...") or type(error).__name__
