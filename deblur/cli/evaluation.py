"""``deblur evaluate``: how good a model is, on the command line and as a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import Subset, parse_subset, readable_errors

if TYPE_CHECKING:
    from deblur.evaluation import Scores
    from deblur.report import EvaluationReport


@readable_errors
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint, folder of a run, ONNX file, models:/ address, server or default."
        ),
    ],
    data: Annotated[str, typer.Argument(help="Data set, prepared or not.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    subset: Subset = "blur",
    out: Annotated[Path | None, typer.Option(help="Folder of a report to write.")] = None,
) -> None:
    """PSNR and SSIM on whole pictures through the serving tiler, beside the blurred input's."""
    from deblur.predictors import open_predictor
    from deblur.progress import for_terminal
    from deblur.report import evaluate_and_report

    with open_predictor(model) as predictor:
        report = evaluate_and_report(
            predictor, data, split, parse_subset(subset), out, for_terminal()
        )
    _show(report)
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")


def _show(report: "EvaluationReport") -> None:
    from rich.console import Console
    from rich.table import Table

    source, scores = report.source, report.scores
    table = Table(
        title=f"{report.model.address} on {source.data}, {source.split}, {source.kind} blur"
    )
    for heading in ("scene", "pictures", "blurred dB", "dB", "gain dB", "blurred SSIM", "SSIM"):
        table.add_column(heading, justify="left" if heading == "scene" else "right")
    for scene, part in scores.by_scene().items():
        table.add_row(*_row(scene, part))
    table.add_row(*_row("all", scores), style="bold")
    console = Console()
    console.print(table)
    for sentence in report.sentences():
        console.print(sentence, markup=False, highlight=False)


def _row(name: str, part: "Scores") -> tuple[str, ...]:
    return (
        name, str(len(part.pictures)), f"{part.blurred_psnr:.2f}", f"{part.psnr:.2f}",
        f"{part.gain:+.2f}", f"{part.blurred_ssim:.4f}", f"{part.ssim:.4f}",
    )  # fmt: skip
