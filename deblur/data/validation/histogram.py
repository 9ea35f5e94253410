"""Where the bars of the report's histograms stand."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The drawing's size in units of its own, and the most bars in it.
WIDTH, HEIGHT = 320.0, 90.0
_MOST_BARS = 48


@dataclass(frozen=True)
class Bar:
    """A bar from the bottom up; ``title`` says what it counts."""

    x: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """The values of one split.

    Attributes:
        split: its name, and ``count`` of values.
        bars: of equal width.
        outliers: places of values to be marked.
        ticks: places on the axis and what stands there.
    """

    split: str
    count: int
    bars: tuple[Bar, ...]
    outliers: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def histogram(values: Mapping[str, Sequence[tuple[float, bool]]]) -> list[Histogram]:
    """One histogram a split over a common axis.

    Args:
        values: PSNR in dB, and whether it is to be marked, by split.
    """
    every = [value for of_split in values.values() for value, _ in of_split]
    if not every:
        return []
    first, last = math.floor(min(every)), math.floor(max(every)) + 1
    step = max(1, math.ceil((last - first) / _MOST_BARS))
    scale = WIDTH / (last - first)
    between = next(t for t in (1, 2, 5, 10, 20, 50, 100, 200) if (last - first) / t <= 12)
    ticks = tuple(
        ((at - first) * scale, str(at))
        for at in range(first, last + 1)
        if at % between == 0
    )  # fmt: skip
    drawn = []
    for split, of_split in values.items():
        counts = Counter((math.floor(value) - first) // step for value, _ in of_split)
        most = max(counts.values(), default=1)
        bars = tuple(
            Bar(
                x=bin * step * scale,
                width=step * scale,
                height=HEIGHT * count / most,
                title=f"{first + bin * step} to {first + (bin + 1) * step} dB: {count}",
            )
            for bin, count in sorted(counts.items())
        )
        outliers = tuple((value - first) * scale for value, marked in of_split if marked)
        drawn.append(Histogram(split, len(of_split), bars, outliers, ticks))
    return drawn
