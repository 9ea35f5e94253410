"""Where everything stands in the report's plots, which the page draws as SVG."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deblur.evaluation import PictureScore

#: The plots' inner size in units of their own.
WIDTH, HEIGHT = 440.0, 220.0
_MOST_BARS = 32

#: Places on an axis and what stands there.
Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Point:
    """A picture; ``title`` names it, ``worse`` marks one that lost PSNR."""

    x: float
    y: float
    title: str
    worse: bool


@dataclass(frozen=True)
class Scatter:
    """Gain against the PSNR of the blurred input; ``zero`` and ``mean`` are heights of lines."""

    points: tuple[Point, ...]
    x_ticks: Ticks
    y_ticks: Ticks
    zero: float
    mean: float


@dataclass(frozen=True)
class Bar:
    """A bar of the histogram from the bottom up; ``worse`` if its gains are below zero."""

    x: float
    width: float
    height: float
    title: str
    worse: bool


@dataclass(frozen=True)
class Histogram:
    """How many pictures gained how much; ``most`` is the count of the highest bar."""

    bars: tuple[Bar, ...]
    ticks: Ticks
    most: int


def scatter(pictures: Sequence[PictureScore]) -> Scatter | None:
    """The pictures whose gain is finite; ``None`` if there are none."""
    shown = [picture for picture in pictures if math.isfinite(picture.gain)]
    if not shown:
        return None
    gains = [picture.gain for picture in shown]
    across = _Axis([picture.blurred.psnr for picture in shown], WIDTH, ticks=8)
    up = _Axis([0.0, *gains], HEIGHT, ticks=6)
    points = tuple(
        Point(
            x=across.place(picture.blurred.psnr),
            y=HEIGHT - up.place(picture.gain),
            title=f"{picture.scene} {picture.name}: {picture.blurred.psnr:.2f} dB, "
            f"{picture.gain:+.2f} dB",
            worse=picture.gain < 0.0,
        )
        for picture in shown
    )
    y_ticks = tuple((HEIGHT - place, text) for place, text in up.ticks)
    mean = HEIGHT - up.place(sum(gains) / len(gains))
    return Scatter(points, across.ticks, y_ticks, HEIGHT - up.place(0.0), mean)


def histogram(pictures: Sequence[PictureScore]) -> Histogram | None:
    """Of the gains that are finite; ``None`` if there are none."""
    gains = [picture.gain for picture in pictures if math.isfinite(picture.gain)]
    if not gains:
        return None
    low, high = min(0.0, *gains), max(0.0, *gains)
    step = _nice((high - low) / _MOST_BARS) if high > low else 0.1
    # From zero on, so that no bar holds both pictures made better and pictures made worse.
    counts = Counter(math.floor(gain / step) for gain in gains)
    first, last = min(0, *counts), max(0, *counts) + 1
    axis = _Axis([first * step, last * step], WIDTH, ticks=8, margin=0.0)
    most = max(counts.values())
    bars = tuple(
        Bar(
            x=axis.place(number * step),
            width=WIDTH / (last - first),
            height=HEIGHT * count / most,
            title=f"{number * step:+.2f} to {(number + 1) * step:+.2f} dB: {count}",
            worse=number < 0,
        )
        for number, count in sorted(counts.items())
    )
    return Histogram(bars, axis.ticks, most)


class _Axis:
    """A linear axis that holds all values, with about as many round ticks as asked for."""

    def __init__(
        self, values: Sequence[float], length: float, ticks: int, margin: float = 0.04
    ) -> None:
        low, high = min(values), max(values)
        room = (high - low) * margin if high > low else 0.5
        self._low, self._high, self._length = low - room, high + room, length
        step = _nice((self._high - self._low) / ticks)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        numbers = range(math.ceil(self._low / step), math.floor(self._high / step) + 1)
        self.ticks: Ticks = tuple(
            (self.place(n * step), f"{n * step:.{decimals}f}") for n in numbers
        )

    def place(self, value: float) -> float:
        return (value - self._low) / (self._high - self._low) * self._length


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... or 0.5, 0.2, 0.1 ... that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= step * (1 - 1e-9))
