"""The report for people: one page that needs nothing else, and no script."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur.bootstrap import Interval
from deblur.data.pairs import Pairs
from deblur.evaluation import Scores
from deblur.gates.harm import harm_sheet
from deblur.progress import SILENT, Progress
from deblur.report.evaluation import EvaluationReport, Figure
from deblur.report.panels import COLOURS, data_uri, examples, panels
from deblur.report.plots import HEIGHT, WIDTH, histogram, scatter

#: Scenes, and pictures made worse, that are listed; the JSON has all.
_SCENES, _WORSE = 40, 30
_NAMES = {"psnr": "PSNR, dB", "ssim": "SSIM", "ssim_matlab3d": "SSIM as MATLAB's"}


@dataclass(frozen=True)
class FigureRow:
    """A metric in the table: three values, each with its interval."""

    name: str
    cells: tuple[tuple[str, str], ...]


def render(report: EvaluationReport, pairs: Pairs, progress: Progress = SILENT) -> str:
    """The page in HTML: no address outside it, no script.

    Args:
        report: what was found.
        pairs: the pictures it was found on; a few are read and predicted once more to be shown.
        progress: shows these.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown, scale = panels(examples(report.scores, pairs, report.model.predict, progress))
    scenes = _listed(report.scores)
    return environment.get_template("report.html.j2").render(
        report=report,
        grave=severity(report),
        sentences=report.sentences(),
        figures=[_row(figure) for figure in report.figures],
        scenes=scenes[:_SCENES],
        scenes_in_all=len(scenes),
        worse=report.worse[:_WORSE],
        scatter=scatter(report.scores.pictures),
        histogram=histogram(report.scores.pictures),
        width=WIDTH,
        height=HEIGHT,
        harm=data_uri(np.asarray(harm_sheet(report.model.predict))) if report.checks else "",
        panels=shown,
        scale=scale,
        gradient=", ".join(f"rgb{colour}" for colour in COLOURS),
    )


def severity(report: EvaluationReport) -> str:
    """``good`` if the whole interval of the gain is above zero, ``error`` if it is below, else
    ``warning``: the pictures do not tell."""
    gain = report.psnr.gain
    if gain is None or math.isnan(gain.low):
        return "warning"
    return "good" if gain.low > 0.0 else "error" if gain.high < 0.0 else "warning"


def _listed(scores: Scores) -> list[tuple[str, Scores]]:
    """The scenes by name, or the least gain first where they are too many to list."""
    scenes = list(scores.by_scene().items())
    return scenes if len(scenes) <= _SCENES else sorted(scenes, key=lambda item: item[1].gain)


def _row(figure: Figure) -> FigureRow:
    digits = 2 if figure.name == "psnr" else 4
    cells = (
        _cell(figure.blurred_mean, figure.blurred, f".{digits}f"),
        _cell(figure.mean, figure.result, f".{digits}f"),
        _cell(figure.mean - figure.blurred_mean, figure.gain, f"+.{digits}f"),
    )
    return FigureRow(_NAMES[figure.name], cells)


def _cell(mean: float, interval: Interval | None, style: str) -> tuple[str, str]:
    if interval is None or math.isnan(interval.low):
        return format(mean, style), ""
    return format(mean, style), f"{interval.low:{style}} to {interval.high:{style}}"
