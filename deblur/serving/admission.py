"""How much work is taken on at once: in megapixels, because that is what time and memory follow."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deblur.errors import DeblurError


class BusyError(DeblurError):
    """More work is waiting than is taken on. ``retry_after`` is in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


class Bound:
    """An amount that must not be exceeded by all that hold a share of it.

    Attributes:
        limit: of the sum.
        held: what is held now.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.held = 0.0
        self._holders = 0

    def take(self, amount: float) -> bool:
        """Hold ``amount`` if it fits; one that is above the limit itself fits when nothing else is
        held."""
        if self._holders and self.held + amount > self.limit:
            return False
        self.take_anyway(amount)
        return True

    def take_anyway(self, amount: float) -> None:
        """Hold ``amount`` whether it fits or not."""
        self._holders += 1
        self.held += amount

    def give_back(self, amount: float) -> None:
        self._holders -= 1
        # What is left of the sum when all of its floats have been taken away again is not zero.
        self.held = self.held - amount if self._holders else 0.0


class Gate:
    """A bound at which one waits, in order of arrival, until there is room."""

    def __init__(self, limit: float) -> None:
        self._bound = Bound(limit)
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def room_for(self, amount: float) -> AsyncIterator[None]:
        """Hold ``amount`` for as long as the block lasts; waits until it fits."""
        if self._line or not self._bound.take(amount):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it had its room already
                    self._leave(amount)
                else:
                    self._let_in()
                raise
        try:
            yield
        finally:
            self._leave(amount)

    def _leave(self, amount: float) -> None:
        self._bound.give_back(amount)
        self._let_in()

    def _let_in(self) -> None:
        while self._line:
            amount, turn = self._line[0]
            if turn.done():  # whoever waited has left
                self._line.popleft()
            elif self._bound.take(amount):
                self._line.popleft()
                turn.set_result(None)
            else:
                return
