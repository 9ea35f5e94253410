"""``deblur tune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import parse_subset, readable_errors

if TYPE_CHECKING:
    from deblur.data.pairs import Pairs
    from deblur.tuning.search import Tuning


@readable_errors
def tune(
    model: Annotated[str, typer.Argument(help="ONNX file, or a registered model as models:/...")],
    data: Annotated[
        str, typer.Argument(help="Data set: int8 learns on train, val is what is scored.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the result; an unfinished tuning there goes on.")
    ] = Path("tuning"),
    pictures: Annotated[
        int | None, typer.Option(min=1, help="Validation pictures to score. [default: 8]")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=64, help="Side of the picture to time. [default: 1536]")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Times that each setting is timed. [default: 3]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: fewer geometries, pictures, rounds.")
    ] = False,
) -> None:
    """Find the fastest way to run a model on this machine that costs at most 0.05 dB.

    The setting found is written beside the model file, where serve, predict and evaluate read it;
    that of a registered model is attached to its version.
    """
    from dataclasses import replace

    from deblur.atomic import whole_file
    from deblur.data.pairs import open_pairs
    from deblur.predictors import local_model
    from deblur.progress import for_terminal
    from deblur.serving.engine import read_contract
    from deblur.tuning.picture import tuning_picture
    from deblur.tuning.search import QUICK, Effort, tune

    effort = QUICK if quick else Effort()
    effort = replace(
        effort,
        pictures=pictures or effort.pictures,
        side=side or effort.side,
        rounds=rounds or effort.rounds,
    )
    progress = for_terminal()
    with local_model(model, tuned=False) as file:
        subset = parse_subset(read_contract(file).subset)
        train, validation = (open_pairs(data, split, subset) for split in ("train", "val"))
        found = tune(file, train, validation, out, effort, progress)
        with whole_file(out / "tuning.png") as partial:
            tuning_picture(found).save(partial, "PNG")
        _show(found)
        if model.startswith("models:/"):
            from deblur.tuning.attach import attach_tuning

            test = open_pairs(data, "test", subset)
            attach_tuning(model, out, found.choice.setting, _as_served(file, found, out, test))
            kept = f"attached to {model}"
        else:
            kept = f"written to {_put_beside(file, found, out)}"
    typer.echo(f"{found.choice.setting.sentence()}: {kept}; figures in {out / 'tuning.json'}")


def _show(found: "Tuning") -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{found.machine.cpu}, {found.machine.cpus} CPUs, {len(found.scored)} pictures scored"
    table = Table("", "provider", "precision", title=title)
    for heading in ("tile", "overlap", "threads", "ms/MP", "PSNR dB", "lost dB"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in found.candidates:
        chosen, setting = each == found.choice, each.setting
        threads = str(setting.threads or "all")
        table.add_row(
            "[bold green]>[/]" if chosen else "",
            setting.provider,
            setting.precision,
            str(setting.tile),
            str(setting.overlap),
            f"{setting.streams} x {threads}" if setting.streams > 1 else threads,
            "" if each.ms_per_mp is None else f"{each.ms_per_mp:.0f}",
            "" if each.psnr is None else f"{each.psnr:.3f}",
            "" if each.loss is None else f"{each.loss:+.3f}",
            "[green]chosen[/]" if chosen else _short(each.why_not),
            style="bold" if chosen else "" if each.passed else "dim",
        )
    console = Console()
    console.print(table)
    console.print(
        f"[bold]{found.speed_up:.2f} times as fast[/] as {found.reference.setting.sentence()}",
        highlight=False,
    )


def _short(problem: str) -> str:
    """A problem without markup and on one line; the whole of it is in ``tuning.json``."""
    from rich.markup import escape

    return escape(problem if len(problem) <= 60 else problem[:57] + "...")


def _as_served(file: Path, found: "Tuning", out: Path, test: "Pairs") -> dict[str, float]:
    """The figures of the test pictures in the chosen setting."""
    from deblur.evaluation import evaluate
    from deblur.progress import for_terminal
    from deblur.serving.engine import Engine

    setting = found.choice.setting
    served = out / "model.int8.onnx" if setting.precision == "int8" else file
    scores = evaluate(
        Engine(served, setting=setting).predict, test, for_terminal(), name="score as served"
    )
    return scores.metrics("test")


def _put_beside(file: Path, found: "Tuning", out: Path) -> Path:
    """The setting beside a model file, and the quantised file if the setting runs it."""
    import shutil

    from deblur.atomic import whole_file
    from deblur.serving.setting import int8_file, write_setting

    # First of all, so that there is never a setting whose file is missing.
    if found.choice.setting.precision == "int8":
        with whole_file(int8_file(file)) as partial:
            shutil.copyfile(out / "model.int8.onnx", partial)
    return write_setting(file, found.choice.setting)
