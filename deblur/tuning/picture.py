"""The picture of a tuning: what each setting takes, and what it loses."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from deblur.serving.setting import Setting
from deblur.tuning.search import Candidate, Tuning

_WIDTH, _HEIGHT, _DPI = 1200, 760, 100
#: Of Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = {"fp32": "#0072B2", "bf16": "#D55E00", "int8": "#009E73"}
_MARKS = {"cpu": "o", "openvino": "s"}
_NAMES = {"cpu": "onnxruntime", "openvino": "OpenVINO"}
_INK, _GREY, _GRID = "#28282C", "#767676", "#E4E4E2"
#: Losses beyond so many gates are drawn at the upper edge: how bad they are is in the table.
_EDGE = 4.0


def tuning_picture(tuning: Tuning) -> Image.Image:
    """Draw milliseconds per megapixel against PSNR loss, with the gate and the choice.

    Returns:
        An RGB picture of 1200x760 pixels.
    """
    canvas = FigureCanvasAgg(tuning_figure(tuning))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def tuning_figure(tuning: Tuning) -> Figure:
    """What ``tuning_picture`` draws, as a figure that belongs to no window."""
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.075, 0.135, 0.9, 0.725))
    drawn = [c for c in tuning.candidates if c.ms_per_mp is not None and c.loss is not None]
    worst = max(c.loss or 0.0 for c in drawn)
    edge = min(_EDGE * tuning.gate, max(1.5 * tuning.gate, worst))
    low = min([-0.3 * tuning.gate, *(1.3 * (c.loss or 0.0) for c in drawn)])
    axes.axhspan(low, tuning.gate, color="#F2F7F2", zorder=0)
    axes.axhline(tuning.gate, color=_INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
    _front(axes, drawn, edge)
    for candidate in drawn:
        setting = candidate.setting
        x, y = candidate.ms_per_mp or 0.0, min(candidate.loss or 0.0, edge)
        axes.plot(
            x, y, _MARKS[setting.provider], markersize=9, zorder=3, clip_on=False,
            color=_COLOURS[setting.precision] if candidate.passed else "white",
            markeredgecolor=_COLOURS[setting.precision], markeredgewidth=1.6,
        )  # fmt: skip
    choice = tuning.choice
    axes.plot(
        choice.ms_per_mp or 0.0, choice.loss or 0.0, "o", markersize=22, color="none",
        markeredgecolor=_INK, markeredgewidth=1.8, zorder=4, clip_on=False,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(low, 1.06 * edge)
    times = [c.ms_per_mp for c in drawn if c.ms_per_mp]
    axes.set_xlim(min(times) / 1.5, max(times) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds per megapixel (less is faster)", color=_INK)
    axes.set_ylabel("PSNR lost against the reference, dB", color=_INK)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_GREY, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.annotate(
        f"allowed: {tuning.gate:g} dB", (1, tuning.gate), xycoords=("axes fraction", "data"),
        xytext=(-4, 4), textcoords="offset points", ha="right", color=_INK, fontsize=9,
    )  # fmt: skip
    _label(axes, tuning.reference, "reference: " + _short(tuning.reference.setting), edge)
    if choice != tuning.reference:
        _label(axes, choice, "choice: " + _short(choice.setting), edge, above=False)
    _legend(axes, drawn)
    beyond = sum((c.loss or 0.0) > edge for c in drawn)
    failed = len(tuning.candidates) - len(drawn)
    notes = [f"{tuning.machine.cpu}, {tuning.machine.cpus} CPUs"]
    notes += [f"{len(tuning.scored)} validation pictures scored"]
    notes += ["hollow: loses more than allowed"] if any(not c.passed for c in drawn) else []
    notes += [f"{beyond} beyond the upper edge"] if beyond else []
    notes += [f"{failed} could not be measured"] if failed else []
    figure.text(0.075, 0.03, "; ".join(notes), color=_GREY, fontsize=9)
    figure.text(
        0.075, 0.947, f"{tuning.speed_up:.2f} times as fast as the reference", color=_INK,
        fontsize=15, weight="bold",
    )  # fmt: skip
    figure.text(0.075, 0.917, choice.setting.sentence(), color=_GREY, fontsize=10.5)
    return figure


def _front(axes, drawn: Sequence[Candidate], edge: float) -> None:  # type: ignore[no-untyped-def]
    """A line along what nothing beats in both time and loss (Pareto's front)."""
    best, front = float("inf"), []
    for candidate in sorted(drawn, key=lambda c: (c.ms_per_mp or 0.0, c.loss or 0.0)):
        if (candidate.loss or 0.0) < best:
            best = candidate.loss or 0.0
            front.append((candidate.ms_per_mp, min(best, edge)))
    axes.plot(*zip(*front, strict=True), color=_GREY, linewidth=1, zorder=2, alpha=0.7)


def _label(  # type: ignore[no-untyped-def]
    axes, candidate: Candidate, text: str, edge: float, above: bool = True
) -> None:
    left, right = axes.get_xlim()
    time = candidate.ms_per_mp or 1.0
    rightmost = np.log(time / left) > 0.6 * np.log(right / left)
    axes.annotate(
        text, (time, min(candidate.loss or 0.0, edge)),
        xytext=(14 if not rightmost else 0, 16 if above else -24), textcoords="offset points",
        ha="right" if rightmost else "left", fontsize=9.5, color=_INK, zorder=5,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip


def _legend(axes, drawn: Sequence[Candidate]) -> None:  # type: ignore[no-untyped-def]
    kinds = dict.fromkeys((c.setting.provider, c.setting.precision) for c in drawn)
    for provider, precision in kinds:
        axes.plot(
            [], [], _MARKS[provider], color=_COLOURS[precision], markersize=8,
            label=f"{_NAMES[provider]} {precision}",
        )  # fmt: skip
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.01, 0.995), ncols=len(kinds), frameon=False,
        labelcolor=_INK, fontsize=9.5, handletextpad=0.2, columnspacing=1.4,
    )  # fmt: skip


def _short(setting: Setting) -> str:
    return f"{setting.precision}, {setting.tile}/{setting.overlap}"
