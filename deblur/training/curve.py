"""The learning curve: PSNR, losses and learning rate over a training, as one picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from PIL import Image

_WIDTH, _HEIGHT, _DPI = 1200, 800, 100
#: Of Okabe and Ito's colours, which people with any colour vision tell apart.
_BLUE, _VERMILION = "#0072B2", "#D55E00"
_INK, _GREY, _GRID = "#28282C", "#767676", "#E4E4E2"
#: Up to so many points each of them is marked.
_MARKED = 40
#: Steps between the ticks of an axis.
_ROUND = (1, 2, 5, 10)
#: Where the axis of the time stands, in heights of the lower panel.
_TIME = -0.2


@dataclass(frozen=True)
class CurvePoint:
    """A validation and what led to it.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        crops: crops seen.
        seconds: time spent training.
        train_loss: mean loss of the steps of its epoch.
        val_loss: mean loss on the validation pictures.
        psnr: of the validation pictures, in dB, and their ``ssim``.
        blurred_psnr: PSNR of the blurred input, in dB.
        learning_rate: that of the last step.
    """

    epoch: int
    step: int
    crops: int
    seconds: float
    train_loss: float
    val_loss: float
    psnr: float
    ssim: float
    blurred_psnr: float
    learning_rate: float


def learning_curve(points: Sequence[CurvePoint], title: str, footer: str = "") -> Image.Image:
    """Draw a training: PSNR above, losses and learning rate below, over the crops seen.

    Args:
        points: in the order of the training. Figures that are not finite are left out.
        title: stands above, on one line.
        footer: stands below, as what the pictures are.

    Returns:
        An RGB picture of 1200x800 pixels.
    """
    canvas = FigureCanvasAgg(learning_figure(points, title, footer))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def learning_figure(points: Sequence[CurvePoint], title: str, footer: str = "") -> Figure:
    """What ``learning_curve`` draws, as a figure that belongs to no window."""
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI, facecolor="white")
    grid = figure.add_gridspec(
        2, 1, height_ratios=(3, 2), left=0.07, right=0.915, top=0.87, bottom=0.155, hspace=0.24
    )
    quality = figure.add_subplot(grid[0])
    losses = figure.add_subplot(grid[1], sharex=quality)
    rate = losses.twinx()
    # The name of a run may hold what would be taken for a formula.
    figure.text(0.07, 0.95, title, fontsize=15, fontweight="bold", color=_INK, parse_math=False)
    figure.text(0.07, 0.02, footer, fontsize=10.5, color=_GREY, parse_math=False)

    crops = np.array([point.crops for point in points], dtype=float)
    _draw_quality(quality, points, crops)
    _draw_losses(losses, rate, points, crops)
    for axes in (quality, losses, rate):
        _clean(axes)
    _draw_crops(quality, losses, points, crops)
    return figure


def _draw_quality(axes: Axes, points: Sequence[CurvePoint], crops: np.ndarray) -> None:
    psnr = np.array([point.psnr for point in points])
    blurred = np.array([point.blurred_psnr for point in points])
    _line(axes, crops, psnr, "deblurred", _BLUE, 2.0)
    # The blurred input is as good at the start as at the first validation.
    _line(
        axes, np.concatenate([[0.0], crops]), np.concatenate([blurred[:1], blurred]),
        "blurred input", _INK, 1.4, linestyle=(0, (5, 3)), marked=False,
    )  # fmt: skip
    shown = np.concatenate([psnr, blurred])
    shown = shown[np.isfinite(shown)]
    if shown.size:
        span = max(shown.max() - shown.min(), 0.5)
        axes.set_ylim(shown.min() - 0.08 * span, shown.max() + 0.16 * span)  # the label's place
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=_ROUND))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    finite = np.flatnonzero(np.isfinite(psnr))
    if finite.size:
        _mark_best(axes, points, int(finite[psnr[finite].argmax()]))
    else:
        axes.yaxis.set_major_locator(NullLocator())
        axes.text(
            0.5, 0.5, "no PSNR yet", transform=axes.transAxes, ha="center", color=_GREY, fontsize=12
        )
    _heading(axes, "PSNR in dB")


def _mark_best(axes: Axes, points: Sequence[CurvePoint], best: int) -> None:
    point = points[best]
    text = f"best: {point.psnr:.2f} dB"
    if math.isfinite(point.blurred_psnr):
        text += f" ({point.psnr - point.blurred_psnr:+.2f} dB)"
    text += f", epoch {point.epoch}"
    axes.plot(point.crops, point.psnr, "o", ms=8, mfc="white", mec=_BLUE, mew=2, zorder=5)
    # Nothing of the model's line is above its highest point: the label stands there, clear of the
    # blurred input's line, and within the panel.
    low, high = axes.get_ylim()
    above = 0 <= point.blurred_psnr - point.psnr < 0.15 * (high - low)
    height = point.blurred_psnr if above else point.psnr
    place = point.crops / max(max(p.crops for p in points), 1)
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"
    shift = {"left": -6, "right": 6, "center": 0}[side]
    axes.annotate(
        text, (point.crops, height), (shift, 11), textcoords="offset points", ha=side,
        color=_BLUE, fontsize=12, fontweight="bold", zorder=6,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip


def _draw_losses(axes: Axes, rate: Axes, points: Sequence[CurvePoint], crops: np.ndarray) -> None:
    train = np.array([point.train_loss for point in points])
    validation = np.array([point.val_loss for point in points])
    # A logarithm has no place for what is not positive.
    train, validation = (np.where(values > 0, values, np.nan) for values in (train, validation))
    rates = np.array([point.learning_rate for point in points])
    _line(
        rate, crops, rates, "learning rate (right)", _GREY, 1.2, linestyle=(0, (1, 2)), marked=False
    )
    _line(axes, crops, train, "training", _VERMILION, 1.4)
    _line(axes, crops, validation, "validation", _BLUE, 2.0)
    axes.set_yscale("log")
    both = np.concatenate([train, validation])
    both = both[np.isfinite(both)]
    axes.yaxis.set_major_locator(NullLocator())
    if both.size:
        low, high = float(both.min()), float(both.max())
        room = max((high / low) ** 0.08, 1.02)
        low, high = low / room, high * room
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator(_log_ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    finite = rates[np.isfinite(rates)]
    top = finite.max() if finite.size else 0.0
    rate.set_ylim(0.0, top * 1.1 if top > 0 else 1.0)
    rate.yaxis.set_major_locator(MaxNLocator(4, steps=_ROUND) if top > 0 else FixedLocator([0.0]))
    rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _scientific(value)))
    rate.patch.set_visible(False)
    axes.set_zorder(rate.get_zorder() + 1)  # the losses stand before the learning rate
    axes.patch.set_visible(False)
    _heading(axes, "loss", rate)


def _draw_crops(upper: Axes, lower: Axes, points: Sequence[CurvePoint], crops: np.ndarray) -> None:
    """The axis of crops, and below it one of the time they took."""
    last = crops.max(initial=0.0) or 1.0
    upper.set_xlim(-0.01 * last, 1.02 * last)
    upper.tick_params(labelbottom=False)
    lower.xaxis.set_major_locator(MaxNLocator(10, steps=_ROUND, integer=True))
    lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    _name_axis(lower, 0.0, "crops")

    seconds = np.array([point.seconds for point in points])
    known = np.isfinite(seconds)
    # Crops are drawn to scale, so the time is not: an hour stands where its crops do.
    taken = np.maximum.accumulate(np.concatenate([[0.0], seconds[known]]))
    seen = np.maximum.accumulate(np.concatenate([[0.0], crops[known]]))
    length, unit = next(
        ((s, n) for s, n in ((3600.0, "hours"), (60.0, "minutes")) if taken[-1] >= 2 * s),
        (1.0, "seconds"),
    )
    times = np.asarray(MaxNLocator(10, steps=_ROUND).tick_values(0.0, taken[-1] / length))
    ticks: dict[float, str] = {}
    for time in times[(times >= 0) & (times * length <= taken[-1])]:
        place = float(np.interp(time * length, taken, seen))
        if not ticks or place - max(ticks) >= 0.05 * last:
            ticks[place] = f"{time:g}"
    below = lower.secondary_xaxis(_TIME)
    below.set_xticks(list(ticks), list(ticks.values()))
    below.tick_params(colors=_GREY, labelcolor=_INK, labelsize=10.5, length=3)
    below.spines["bottom"].set_color(_GREY)
    _name_axis(lower, _TIME, unit)


def _name_axis(axes: Axes, height: float, name: str) -> None:
    """The name of the horizontal axis at ``height`` at its end, on the line of its numbers."""
    axes.annotate(
        name, (1.0, height), (14, -6.5), xycoords="axes fraction",
        textcoords="offset points", va="top", fontsize=10.5, color=_INK, annotation_clip=False,
    )  # fmt: skip


def _line(
    axes: Axes,
    crops: np.ndarray,
    values: np.ndarray,
    label: str,
    color: str,
    width: float,
    linestyle: Any = "-",
    marked: bool = True,
) -> None:
    """The finite values. One alone is a dot, as a line needs two."""
    finite = np.isfinite(values)
    count = int(finite.sum())
    dotted = count == 1 or (marked and count <= _MARKED)
    axes.plot(
        crops[finite], values[finite], label=label, color=color, lw=width, linestyle=linestyle,
        solid_joinstyle="round", marker="o" if dotted else "", markersize=3.5 * width**0.5,
    )  # fmt: skip


def _heading(axes: Axes, title: str, *others: Axes) -> None:
    """What a panel shows, at its left above, and beside it which line is which."""
    axes.set_title(title, loc="left", fontsize=12, color=_INK, pad=9)
    lines = [line for panel in (axes, *others) for line in panel.get_lines()]
    lines = [line for line in lines if not str(line.get_label()).startswith("_")]
    axes.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1.0, 0.995), ncols=len(lines),
        frameon=False, fontsize=11, labelcolor=_INK, borderaxespad=0.2, handlelength=2.2,
        columnspacing=1.8,
    )  # fmt: skip


def _clean(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    axes.tick_params(colors=_GREY, labelcolor=_INK, labelsize=10.5, length=3)
    axes.tick_params(axis="y", length=0)
    if axes.yaxis.get_label_position() == "right":
        axes.tick_params(axis="y", labelcolor=_GREY)  # as the line that they are of
    else:
        axes.grid(axis="y", color=_GRID, lw=0.8)
        axes.set_axisbelow(True)


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values from ``low`` to ``high``, few enough to be read."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{d}e{decade}") for decade in decades for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 6:
            break
    if len(ticks) < 2:  # as of equal values
        every = MaxNLocator(4, steps=_ROUND).tick_values(low, high)
        ticks = [float(tick) for tick in every if low <= tick <= high]
    return ticks


def _count(value: float) -> str:
    """``0``, ``800``, ``20 k`` or ``1.5 M``."""
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def _scientific(value: float) -> str:
    """``0`` or ``2.5e-4``."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"
