"""What each step came to, read without stalling the device, and how fast the steps go."""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

#: Steps that a GPU may be behind; enough to keep it busy while the CPU prepares the next.
_BEHIND = 2


class Reading(NamedTuple):
    """One step: its number (counted from 1), the loss of its batch, the gradient's norm before
    clipping, and whether it was skipped because one of them was not finite.
    """

    step: int
    loss: float
    grad_norm: float
    skipped: bool


class Readings:
    """Brings ``TrainingRun.train_step``'s answers to the CPU, a few steps later on a GPU.

    Asking a GPU for a number waits for all that it has been given to do. Here the copy is queued
    right behind its step, and read when later steps are queued, too.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._queue: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, step: int, values: Tensor) -> Iterator[Reading]:
        """Take a step's values in; yields the readings that are due."""
        event = None
        if self.device.type == "cuda":
            values = values.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._queue.append((step, values, event))
        yield from self._take(_BEHIND if event is not None else 0)

    def drain(self) -> Iterator[Reading]:
        """All that are left; waits for the device."""
        yield from self._take(0)

    def _take(self, leave: int) -> Iterator[Reading]:
        while len(self._queue) > leave:
            step, values, event = self._queue.popleft()
            if event is not None:
                event.synchronize()
            loss, grad_norm, skipped = values.tolist()
            yield Reading(step, loss, grad_norm, bool(skipped))


class Meter:
    """Times of the steps since it was last asked.

    ``data_time`` is what a step waited for its batch; ``step_time`` the whole step with it.
    """

    def __init__(self) -> None:
        self._reset(time.perf_counter())

    def _reset(self, now: float) -> None:
        self._started = now
        self._data = 0.0
        self._steps = 0
        self._crops = 0

    def add(self, data_time: float, crops: int) -> None:
        """Count a step."""
        self._data += data_time
        self._steps += 1
        self._crops += crops

    def pause(self, seconds: float) -> None:
        """Leave out time that was spent on something else, as a validation."""
        self._started += seconds

    def read(self) -> dict[str, float]:
        """Mean ``data_time`` and ``step_time`` in seconds, ``crops_per_s``; starts anew."""
        now = time.perf_counter()
        seconds, steps = max(now - self._started, 1e-9), max(self._steps, 1)
        values = {
            "data_time": self._data / steps,
            "step_time": seconds / steps,
            "crops_per_s": self._crops / seconds,
        }
        self._reset(now)
        return values
