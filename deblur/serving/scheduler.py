"""The tiles of all pictures share the cores: each picture's next tile in turn.

So a small picture that comes while one of 100 megapixels is under way waits for one tile at a
time, not for the picture. A picture's own tiles are computed and added up in their order, so its
pixels do not depend on what else is running.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from deblur.images import to_float, to_uint8
from deblur.tiling import Blending, TilePlan

log = logging.getLogger(__name__)

#: ``[1, 3, tile, tile]`` float32 in [-1, 1] to the same, not clamped.
RunTile = Callable[[np.ndarray], np.ndarray]

#: Share of the newest tile in the average of the seconds that a tile takes.
_NEWEST = 0.1


class PictureInWork:
    """One picture on its way through the scheduler.

    Attributes:
        total, done: tiles of it, and those that are computed.
        result: the deblurred picture ``[H, W, 3]`` uint8 to come; cancelled by ``cancel``.
    """

    def __init__(
        self, pixels: np.ndarray, plan: TilePlan, run: RunTile, on_tile: Callable[[int, int], None]
    ) -> None:
        self.total, self.done = len(plan), 0
        self.result: Future[np.ndarray] = Future()
        self._planes = pixels.transpose(2, 0, 1)
        self._plan, self._run, self._on_tile = plan, run, on_tile
        self._out = np.empty_like(pixels)
        self._blending = Blending(plan)
        self._next = 0
        self._computed: dict[int, np.ndarray] = {}  # whose predecessors are not yet
        self._adding = threading.Lock()

    def cancel(self) -> None:
        """No further tile of it is begun. Of those under way, what they compute is thrown away."""
        self.result.cancel()

    # What follows is called by the scheduler.

    def take(self) -> int | None:
        """The next tile to compute, ``None`` if none is left. Under the scheduler's lock."""
        if self.result.done() or self._next == self.total:
            return None
        self._next += 1
        return self._next - 1

    def compute(self, index: int) -> None:
        """Compute a tile, and add up what can be."""
        try:
            tile = to_float(self._plan.cut(self._planes, index).transpose(1, 2, 0))
            computed = self._run(tile)
            with self._adding:
                self._computed[index] = computed
                while self.done in self._computed:
                    self._add(self._computed.pop(self.done))
        except Exception as error:  # whatever it is, whoever waits for the picture has to hear it
            log.exception("a tile failed")
            with self._adding:
                if self._unanswered():
                    self.result.set_exception(error)

    def _add(self, tile: np.ndarray) -> None:
        finished = self._blending.add(tile)
        self.done += 1
        if finished is not None:
            first, rows = finished
            self._out[first : first + rows.shape[-2]] = to_uint8(rows)
        self._on_tile(self.done, self.total)
        if self.done == self.total and self._unanswered():
            self.result.set_result(self._out)

    def _unanswered(self) -> bool:
        """Whether the result may be set now: neither set nor cancelled."""
        return not self.result.done() and self.result.set_running_or_notify_cancel()


class Scheduler:
    """Threads that compute tiles, as many as the engine has sessions.

    Attributes:
        tile_seconds: the average a tile takes, with all threads at work; 0 before the first.
    """

    def __init__(self, threads: int = 1) -> None:
        self.tile_seconds = 0.0
        self._waiting: deque[PictureInWork] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"tiles-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        pixels: np.ndarray,
        plan: TilePlan,
        run: RunTile,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> PictureInWork:
        """Put a picture into the round.

        Args:
            pixels: ``[H, W, 3]`` uint8; must stay as they are until the result is there.
            plan: where its tiles lie.
            run: what computes a tile.
            on_tile: called with the tiles done and their total, in a thread of the scheduler.
        """
        picture = PictureInWork(pixels, plan, run, on_tile)
        with self._changed:
            if self._closed:
                raise RuntimeError("the scheduler is closed")
            self._waiting.append(picture)
            self._changed.notify_all()
        return picture

    @property
    def tiles_left(self) -> int:
        """Tiles of all pictures in the round that are not computed."""
        with self._changed:
            return sum(p.total - p.done for p in self._waiting if not p.result.done())

    def close(self, cancel: bool = False) -> None:
        """Take on nothing more, and wait until what there is has been computed or, with ``cancel``,
        only the tiles under way."""
        with self._changed:
            self._closed = True
            if cancel:
                for picture in self._waiting:
                    picture.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (turn := self._turn()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
            picture, index = turn
            began = time.perf_counter()
            picture.compute(index)
            self._measured((time.perf_counter() - began) / len(self._threads))
            del picture, turn  # a thread that waits keeps no picture in memory

    def _turn(self) -> tuple[PictureInWork, int] | None:
        """The next tile of the picture whose turn it is. Under the lock."""
        while self._waiting:
            picture = self._waiting.popleft()
            index = picture.take()
            if index is not None:
                self._waiting.append(picture)
                return picture, index
        return None

    def _measured(self, seconds: float) -> None:
        before = self.tile_seconds
        self.tile_seconds = before + _NEWEST * (seconds - before) if before else seconds
