"""Signals that ask long work to end: noticed here, answered where nothing is lost, as at the end of
a training step or of a picture."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

#: Whoever wants the end at once asks again after this many seconds; sooner, it is the same request
#: heard twice: torchrun passes on the Ctrl-C that the terminal has already sent to everybody.
_AGAIN_AFTER = 1.0


class StopRequest:
    """Whether, and by which signal, the end was asked for."""

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0

    def hear(self, signum: int, _: FrameType | None) -> None:
        """The handler of the signals."""
        now = time.monotonic()
        if self.signum and signum == signal.SIGINT and now - self._since > _AGAIN_AFTER:
            raise KeyboardInterrupt
        if not self.signum:
            self.signum, self._since = signum, now
            name = signal.Signals(signum).name
            log.warning("%s: stopping as soon as all is saved; Ctrl-C ends at once", name)


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Take SIGTERM, Ctrl-C and, on Windows, Ctrl-Break as requests for as long as the block lasts.

    Only a process's main thread can do that; in another one nothing is ever requested.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {signum: signal.signal(signum, request.hear) for signum in signals}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            # None: a handler that was not installed from Python and cannot be put back.
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
