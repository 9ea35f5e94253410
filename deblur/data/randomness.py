"""Stateless randomness: every draw is a pure function of named integers.

A counter-based generator (Philox, Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
SC 2011) is keyed by the seed and by what the draw is for. No worker, process or epoch carries
state, so resuming is exact and the number of workers cannot change the data.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a draw is for. Two streams with the same seed are independent."""

    ORDER = 1
    CROP = 2
    BLUR = 3
    SCENE = 4
    VIDEO = 5


def generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """A generator that depends on its arguments alone.

    Args:
        seed: the run's seed, a non-negative integer.
        stream: what the numbers are used for.
        counters: up to two non-negative integers, for example epoch and index.
    """
    if len(counters) > 2:
        raise ValueError(f"at most two counters, got {len(counters)}")
    # The lowest of the four counter words stays free: it is the one that drawing advances.
    counter = [0, 0, *counters, *[0] * (2 - len(counters))]
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=counter))
