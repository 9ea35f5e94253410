"""A decision on promotion as a page and as a picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from deblur.bootstrap import Interval
from deblur.evaluation import Scores
from deblur.gates.promotion import CEILING, Decision, Side

_BLUE, _VERMILION, _INK, _GREY, _GRID = "#0072B2", "#D55E00", "#28282C", "#767676", "#E4E4E2"


def decision_markdown(decision: Decision) -> str:
    """Verdict, figures, intervals and checks."""
    data = decision.data
    lines = [
        f"# Version {decision.candidate.version}: {'promoted' if decision.promoted else 'refused'}",
        "",
        f"{decision.reason[:1].upper()}{decision.reason[1:]}.",
        "",
        f"Measured on {decision.pictures} pictures of {decision.scenes} scenes: "
        f"`{data['address']}`, split {data['split']}, {data['kind']} blur, subset "
        f"{data['subset']}, manifest `{data['digest'][:12]}`; {decision.decided}, code "
        f"`{decision.code_revision[:12]}`.",
        "",
        "| | version | PSNR dB | SSIM | ms per megapixel | served as | file |",
        "|---|---:|---:|---:|---:|---|---|",
        f"| blurred input | | {decision.blurred_psnr:.3f} | | | | |",
        _row("candidate", decision.candidate),
    ]
    if decision.champion is not None:
        lines.append(_row("champion", decision.champion))
    lines += ["", "| 95 % interval | mean | low | high | drawn |", "|---|---:|---:|---:|---|"]
    lines.append(_interval("candidate above blurred input, dB", decision.gain))
    if decision.difference is not None:
        lines.append(_interval("candidate above champion, dB", decision.difference))
    if decision.speedup is not None:
        lines += ["", f"The candidate is {decision.speedup:.2f} times as fast, run in turns."]
    lines += ["", "| check | measured | allowed | | |", "|---|---:|---:|---|---|"]
    for check in decision.checks:
        unit = f" {check.unit}" if check.unit else ""
        lines.append(
            f"| {check.name} | {check.value:.3g}{unit} | {check.kind} {check.bound:g}{unit} | "
            f"{'passed' if check.passed else '**failed**'} | {check.about} |"
        )
    return "\n".join(lines) + "\n"


def decision_figure(
    decision: Decision, candidate: Scores, champion: Scores | None = None
) -> Image.Image:
    """Every picture as a point over its blurred input's PSNR: how far the candidate is above the
    blurred input, and above the champion if there is one. RGB.
    """
    panels = 1 if champion is None else 2
    figure = Figure(figsize=(6.5 * panels, 4.6), dpi=100, facecolor="white")
    figure.suptitle(
        f"version {decision.candidate.version}: "
        f"{'promoted' if decision.promoted else 'refused'}",
        x=0.02, ha="left", fontsize=14, fontweight="bold", color=_INK,
    )  # fmt: skip
    ours = np.minimum([p.result.psnr for p in candidate.pictures], CEILING)
    blurred = np.minimum([p.blurred.psnr for p in candidate.pictures], CEILING)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw(axes[0], blurred, ours - blurred, decision.gain, "above the blurred input")
    if champion is not None and decision.difference is not None:
        theirs = np.minimum([p.result.psnr for p in champion.pictures], CEILING)
        _draw(axes[1], blurred, ours - theirs, decision.difference, "above the champion")
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _draw(axes: Axes, over: Any, values: Any, interval: Interval, what: str) -> None:
    axes.axhspan(interval.low, interval.high, color=_BLUE, alpha=0.15, lw=0)
    axes.axhline(interval.mean, color=_BLUE, lw=1.5)
    axes.axhline(0.0, color=_INK, lw=1.0, ls=(0, (5, 3)))
    colours = np.where(np.asarray(values) < 0.0, _VERMILION, _BLUE)
    axes.scatter(over, values, s=18, c=list(colours), alpha=0.75, lw=0)
    axes.set_title(
        f"{interval.mean:+.3f} dB, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}",
        fontsize=10.5, color=_INK, loc="left",
    )  # fmt: skip
    axes.set_xlabel("PSNR of the blurred picture, dB", color=_GREY)
    axes.set_ylabel(f"candidate {what}, dB", color=_GREY)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _row(name: str, side: Side) -> str:
    setting = side.setting
    served = (
        f"{setting['provider']} {setting['precision']}, tile {setting['tile']}, overlap "
        f"{setting['overlap']}"
    )
    return (
        f"| {name} | {side.version} | {side.psnr:.3f} | {side.ssim:.4f} | "
        f"{side.ms_per_megapixel:.0f} | {served} | `{side.sha256[:12]}` |"
    )


def _interval(name: str, interval: Interval) -> str:
    return (
        f"| {name} | {interval.mean:+.3f} | {interval.low:+.3f} | {interval.high:+.3f} | "
        f"{interval.groups} {interval.drawn} |"
    )
