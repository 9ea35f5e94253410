"""``deblur train`` and ``deblur checkpoints``."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import readable_errors
from deblur.errors import CheckpointError

if TYPE_CHECKING:
    from deblur.progress import Progress
    from deblur.training.config import TrainConfig
    from deblur.training.folder import CheckpointFolder

checkpoints_app = typer.Typer(
    name="checkpoints", help="The checkpoints of a run.", no_args_is_help=True
)

Run = Annotated[Path, typer.Argument(help="Folder of a run, as runs/mine.")]


@readable_errors
def train(
    data: Annotated[str, typer.Argument(help="Data set: a folder, a .csv, s3://..., prepared.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; an unfinished one goes on.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="seed, gopro or demo.")] = "seed",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as --set batch_size=4. Repeatable."),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Train from the pictures, not prepared: slow.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Go on with a run of other settings or data.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would be, and take.")
    ] = False,
) -> None:
    """Validate, prepare and train. Tracked by MLflow. Started again, it goes on where it was.

    On several GPUs:  torchrun --nproc_per_node 4 -m deblur train ...
    """
    from deblur.progress import SILENT, for_terminal
    from deblur.settings import parse_overrides
    from deblur.training.config import make_config
    from deblur.training.world import joined_world

    config = make_config(recipe, parse_overrides(settings or []))
    if dry_run:
        _show_estimate(config, recipe, data)
        return
    if out is None:
        raise CheckpointError("where should the run be kept? Name a folder, as --out runs/mine")
    from deblur.data.pairs import data_kind
    from deblur.training.tracked import train_tracked

    with joined_world() as world:
        progress = for_terminal() if world.writes else SILENT
        if not world.writes:
            logging.getLogger("deblur").setLevel(logging.WARNING)
        ready = _ready_data(data, config, out, pictures, progress) if world.writes else ""
        data = world.of_first(ready)
        summary, _ = train_tracked(config, recipe, data, out, progress, world=world, adopt=adopt)
        if world.writes:
            typer.echo(
                f"{summary.best}: {summary.psnr:.2f} dB on validation after {summary.epochs} "
                f"epochs, blurred input {summary.blurred_psnr:.2f} dB "
                f"({data_kind(data, config.subset)} blur), {summary.hours:.2f} hours"
            )


def _ready_data(
    data: str, config: "TrainConfig", out: Path, pictures: bool, progress: "Progress"
) -> str:
    """The data set as it is trained on: checked, and prepared unless ``pictures``."""
    from deblur.data.listing import name_of
    from deblur.data.manifest import is_prepared
    from deblur.data.prepare import prepare
    from deblur.data.validation import validate_data

    if is_prepared(data):
        return data
    name = name_of(data, config.subset)
    report = out.parent / "validation" / name
    validated = validate_data(data, config.subset, config.patch_size, out=report, progress=progress)
    validated.require_usable()
    if pictures:
        return data
    prepared = out.parent / "prepared" / name
    prepare(data, prepared, config.subset, progress)
    return str(prepared)


def _show_estimate(config: "TrainConfig", recipe: str, data: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from deblur.progress import clock_time
    from deblur.training.config import TrainConfig, make_config
    from deblur.training.estimate import estimate

    console, defaults = Console(), make_config()
    table = Table("setting", "value", "what it is", title=f"recipe {recipe}")
    for key, field in TrainConfig.model_fields.items():
        value = getattr(config, key)
        # Bold is what the recipe and the command line make of it.
        style = "" if value == getattr(defaults, key) else "bold"
        table.add_row(key, str(value), field.description, style=style)
    console.print(table)
    took = estimate(config, data)
    plan = took.plan
    for phase in plan.phases:
        console.print(
            f"epochs: {len(phase.epochs)} of {phase.crops:,} crops of {phase.patch_size}x"
            f"{phase.patch_size}, {phase.steps_per_epoch:,} steps of {phase.batch_size}",
            highlight=False,
        )
    console.print(
        f"{plan.total_crops:,} crops in {plan.total_steps:,} steps\n"
        f"{took.parameters:,} parameters, {took.gmacs:.1f} GMAC a crop\n"
        f"on {took.device} in {took.precision}, measured with steps of this batch: about "
        f"{took.crops_per_s:.1f} crops/s, {clock_time(took.training_seconds)} of training and "
        f"{clock_time(took.validation_seconds)} of validation, {took.memory_gb:.1f} GB of memory",
        highlight=False,
    )


@checkpoints_app.command("ls")
@readable_errors
def list_checkpoints(run: Run) -> None:
    """List the checkpoints of a run."""
    from rich.console import Console
    from rich.table import Table

    folder = _folder(run)
    entries, latest = folder.entries(), folder.latest
    table = Table("file", "step", "epoch", "PSNR dB", "MB", "saved (UTC)")
    for name in folder.files():
        entry = entries.get(name)
        mark = f"{name} (newest)" if name == latest else name
        if entry is None:
            with suppress(FileNotFoundError):  # a training has just replaced it by a newer one
                size = (run / name).stat().st_size
                table.add_row(mark, "", "", "", _megabytes(size), "not listed")
        else:
            psnr = "" if entry.psnr is None else f"{entry.psnr:.2f}"
            saved = entry.saved[:16].replace("T", " ")
            table.add_row(
                mark, str(entry.step), str(entry.epoch), psnr, _megabytes(entry.bytes), saved
            )
    Console().print(table)


@checkpoints_app.command("verify")
@readable_errors
def verify_checkpoints(run: Run) -> None:
    """Read every checkpoint and compare its checksum; exits with 2 if one is damaged."""
    folder = _folder(run)
    problems = folder.problems()
    for name, problem in problems.items():
        typer.echo(f"{name}: {problem or 'whole'}")
    bad = [name for name, problem in problems.items() if problem]
    if bad:
        raise CheckpointError(
            f"{len(bad)} of {len(problems)} checkpoints are damaged: training goes on from the "
            "newest whole one; remove the damaged files"
        )


@checkpoints_app.command("prune")
@readable_errors
def prune_checkpoints(
    run: Run,
    keep: Annotated[int, typer.Option(min=1, help="How many steps' and epochs'.")] = 1,
) -> None:
    """Remove old checkpoints; the newest and the best stay."""
    removed = _folder(run).prune(keep)
    typer.echo(f"removed {', '.join(removed)}" if removed else "nothing to remove")


def _folder(run: Path) -> "CheckpointFolder":
    from deblur.training.folder import CheckpointFolder

    folder = CheckpointFolder(run)
    if not folder.files():
        raise CheckpointError(
            f"{run} holds no checkpoints: expected the folder of a run, as given to  deblur train "
            "--out"
        )
    return folder


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
