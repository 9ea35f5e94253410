"""``deblur data``: make data sets, look at them, prepare them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import Subset, parse_subset, readable_errors

if TYPE_CHECKING:
    from deblur.data.validation import Finding, Validation

app = typer.Typer(help="Data sets of blurry and sharp pairs.", no_args_is_help=True)

Data = Annotated[
    str,
    typer.Argument(help="A folder, a .toml layout or a .csv of pairs; local, or s3://..."),
]


@app.command("sample")
@readable_errors
def sample(
    root: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/sample"),
    seed: Annotated[int, typer.Option(min=0, help="Everything follows from it.")] = 0,
    averaging: Annotated[str, typer.Option(help="blur or blur_gamma, as in GOPRO_Large.")] = "blur",
    frames: Annotated[int, typer.Option(min=1, help="Blurred pictures per scene.")] = 8,
) -> None:
    """Make a small simulated data set from free photographs, in the layout of GOPRO_Large."""
    from deblur.data.synthesis.sample import SampleConfig, build_sample
    from deblur.progress import for_terminal

    config = SampleConfig(seed=seed, averaging=parse_subset(averaging), frames=frames)
    made = build_sample(root, config, for_terminal())
    typer.echo(
        f"{'kept' if made.reused else 'made'} {made.root}: {made.train} training, {made.val} "
        f"validation and {made.test} test pairs, simulated blur, blurred input at "
        f"{made.blurred_psnr:.2f} dB; sources and licences in SOURCES.md"
    )


@app.command("synthesize")
@readable_errors
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    source: Annotated[
        Path, typer.Option("--from", help="Sharp photographs or videos: a folder, or one file.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="As longest=40 (photographs) or max_motion=3 (videos)."),
    ] = None,
) -> None:
    """Make pairs from sharp photographs (simulated shake) or from videos (averaged frames)."""
    from deblur.data.synthesis.decoding import holds_videos
    from deblur.progress import for_terminal
    from deblur.settings import build, parse_overrides

    overrides = parse_overrides(settings or [])
    if holds_videos(source):
        from deblur.data.synthesis.video import synthesize_videos
        from deblur.data.synthesis.windows import VideoConfig

        config = build(VideoConfig, overrides, "video configuration")
        videos = synthesize_videos(source, out, config, for_terminal())
        pairs, notes = videos.pairs, [v.refused for v in videos.videos if v.refused]
        psnr, reused = videos.blurred_psnr, videos.reused
        notes += [f"{n} windows {reason}" for reason, n in videos.skipped.items()]
        notes += [videos.interpolated] if videos.interpolated else []
    else:
        from deblur.data.synthesis.photos import synthesize_photos
        from deblur.data.synthesis.shake import ShakeConfig

        shake = build(ShakeConfig, overrides, "shake configuration")
        photos = synthesize_photos(source, out, shake, for_terminal())
        pairs = {"train": photos.train, "val": photos.val, "test": photos.test}
        psnr, reused = photos.blurred_psnr, photos.reused
        notes = [*photos.unreadable, *photos.too_small, *photos.twice, *photos.blurry]
    for note in notes:
        typer.secho(note, fg="yellow", err=True)
    counts = ", ".join(f"{n} {split}" for split, n in pairs.items())
    typer.echo(
        f"{'kept' if reused else 'made'} {out}: {counts} pairs, simulated blur, blurred input at "
        f"{psnr:.2f} dB; sources in SOURCES.md"
    )
    empty = [split for split in ("val", "test") if not pairs[split]]
    if empty:
        typer.secho(
            f"no pairs fell to {' and '.join(empty)}: their scenes are drawn by name, one in ten; "
            "add scenes, or hold out more with --set hold_out=0.3 into another folder",
            fg="yellow",
            err=True,
        )


@app.command("validate")
@readable_errors
def validate(
    data: Data,
    subset: Subset = "blur",
    crop: Annotated[int, typer.Option(min=16, help="Side of the training crops.")] = 256,
    report: Annotated[
        Path | None, typer.Option(help="Folder of the report. [default: validation/NAME-SUBSET]")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Report of an earlier version, to see drift against it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="As misaligned.threshold=3 or dark.severity=off. Repeatable."),
    ] = None,
) -> None:
    """Look at every pair and say what is wrong, with pictures. Exits with 2 if there are errors."""
    from deblur.data.listing import name_of
    from deblur.data.validation import make_validation_config, validate_data
    from deblur.progress import for_terminal
    from deblur.settings import parse_overrides

    averaging = parse_subset(subset)
    out = report or Path("validation") / name_of(data, averaging)
    validated = validate_data(
        data,
        averaging,
        crop,
        make_validation_config(parse_overrides(settings or [])),
        reference,
        out,
        for_terminal(),
    )
    _print_validation(validated)
    if not validated.usable:
        raise typer.Exit(2)


@app.command("prepare")
@readable_errors
def prepare(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Local folder. [default: prepared/NAME-SUBSET]")
    ] = None,
    subset: Subset = "blur",
    verify: Annotated[
        bool, typer.Option(help="Also compare the content of what is there with its digests.")
    ] = False,
) -> None:
    """Decode every picture once, for training. Run again, it does only what has changed."""
    from deblur.data.listing import name_of
    from deblur.data.prepare import prepare as prepare_data
    from deblur.progress import for_terminal

    averaging = parse_subset(subset)
    out = out or Path("prepared") / name_of(data, averaging)
    manifest = prepare_data(data, out, averaging, for_terminal(), verify)
    counts = ", ".join(f"{len(e.pairs)} {split}" for split, e in manifest.splits.items())
    size = sum(shard.bytes for e in manifest.splits.values() for shard in e.shards)
    typer.echo(
        f"{out}: {counts} pairs of {manifest.kind} {manifest.subset}, {size / 1e9:.2f} GB, "
        f"version {manifest.digest[:12]}"
    )


@app.command("diff")
@readable_errors
def diff(
    old: Annotated[Path, typer.Argument(help="A prepared folder, or its manifest.json.")],
    new: Annotated[Path, typer.Argument(help="Another, or a later one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What changed between two versions of a data set. Exits with 1 if anything did."""
    from dataclasses import asdict

    from deblur.data.manifest import read_manifest
    from deblur.data.versions import compare

    difference = compare(read_manifest(old), read_manifest(new))
    if as_json:
        typer.echo(json.dumps(asdict(difference), indent=1))
    elif not difference:
        typer.echo("the versions are equal")
    else:
        for sentence in difference.settings:
            typer.secho(f"! {sentence}", fg="yellow")
        for mark, colour, names in (
            ("+", "green", difference.added),
            ("-", "red", difference.removed),
            ("~", "yellow", difference.changed),
            (">", "cyan", [f"{was} -> {now}" for was, now in difference.moved]),
        ):
            for name in names:
                typer.secho(f"{mark} {name}", fg=colour)
        typer.echo(
            f"{len(difference.added)} added, {len(difference.removed)} removed, "
            f"{len(difference.changed)} changed, {len(difference.moved)} moved"
        )
    if difference:
        raise typer.Exit(1)


def _print_validation(validated: "Validation") -> None:
    """The splits, what was found by check with one example each, and where the report is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("split", title=f"{validated.data}, {validated.layout} layout, {validated.subset}")
    for heading in ("pairs", "scenes", "blurred dB"):
        table.add_column(heading, justify="right")
    for split, count in validated.pairs.items():
        psnr = validated.blurred_psnr[split]
        table.add_row(split, str(count), str(validated.scenes[split]), f"{psnr:.2f}")
    console.print(table)
    by_check: dict[str, list[Finding]] = {}
    for finding in validated.findings:
        by_check.setdefault(finding.check, []).append(finding)
    for check, findings in by_check.items():
        first = findings[0]
        colour = "red" if first.severity == "error" else "yellow"
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        console.print(
            f"[{colour} bold]{first.severity}[/] [bold]{check}[/]: "
            f"{escape(first.message)}{more}. {escape(first.advice)}",
            soft_wrap=True,
            highlight=False,
        )
    errors, warnings = len(validated.errors), len(validated.warnings)
    verdict = "[green]usable[/]" if validated.usable else "[red]cannot be trained on[/]"
    console.print(f"{verdict}: {errors} errors, {warnings} warnings; {validated.report}")
