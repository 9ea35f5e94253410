"""``deblur registry``, ``deblur promote``, ``deblur rollback`` and ``deblur fetch``."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur.cli.common import Subset, parse_subset, readable_errors

if TYPE_CHECKING:
    from deblur.registry import Version

#: Exit code of a candidate that was measured and refused; 2 says that it could not be measured.
REFUSED = 3

app = typer.Typer(help="Registered models: versions, what is known of them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on one line.")]
_REFERENCE = "A version as 3, an alias as @champion, or a models:/ address."


@app.command("ls")
@readable_errors
def ls(as_json: Json = False) -> None:
    """All versions, the newest first."""
    from rich.console import Console
    from rich.table import Table

    from deblur.registry import MODEL_NAME, list_versions

    versions = list_versions()
    if as_json:
        typer.echo(json.dumps([_plain(version) for version in versions]))
        return
    table = Table(title=MODEL_NAME)
    for heading in ("version", "aliases", "PSNR dB", "gain dB", "data", "tuned", "gate", "age"):
        right = heading in ("version", "PSNR dB", "gain dB", "age")
        table.add_column(heading, justify="right" if right else "left")
    for version in versions:
        figures, tags = version.figures, version.tags
        psnr, blurred = figures.get("test_psnr"), figures.get("test_blurred_psnr")
        table.add_row(
            str(version.version),
            ", ".join(version.aliases),
            "" if psnr is None else f"{psnr:.2f}",
            "" if psnr is None or blurred is None else f"{psnr - blurred:+.2f}",
            f"{tags.get('data.kind', '')} {tags.get('data.digest', '')[:8]}",
            _tuned(version),
            tags.get("promotion", ""),
            _age(time.time() - version.created),
        )
    Console().print(table)


@app.command("show")
@readable_errors
def show(
    reference: Annotated[str, typer.Argument(help=_REFERENCE)] = "@champion", as_json: Json = False
) -> None:
    """Everything about a version: its tags, its card, the decision on it."""
    from rich.console import Console
    from rich.markdown import Markdown

    from deblur.registry import find_version, read_file

    version = find_version(reference)
    decision = read_file(version, f"{version.folder}/promotion/decision.json")
    if as_json:
        whole = {**_plain(version), "decision": json.loads(decision) if decision else None}
        typer.echo(json.dumps(whole))
        return
    card = read_file(version, f"{version.folder}/card.md")
    console = Console()
    console.print(Markdown(card or f"# {version.name}, version {version.version}, without a card"))
    for name, value in sorted(version.tags.items()):
        if name != "contract":
            console.print(f"{name} = {value}", highlight=False, markup=False, style="dim")


@app.command("diff")
@readable_errors
def diff(
    one: Annotated[str, typer.Argument(help=_REFERENCE)],
    other: Annotated[str, typer.Argument(help=_REFERENCE)],
    as_json: Json = False,
) -> None:
    """What differs between two versions: figures, settings of the training, data, code, serving."""
    from rich.console import Console
    from rich.table import Table

    from deblur.registry import find_version, run_record

    left, right = find_version(one), find_version(other)
    sides = [_comparable(version, run_record(version).params) for version in (left, right)]
    names = sorted(sides[0].keys() | sides[1].keys())
    found = {
        name: (sides[0].get(name), sides[1].get(name))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    }
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        typer.echo(f"versions {left.version} and {right.version} do not differ")
        return
    table = Table("", f"version {left.version}", f"version {right.version}")
    for name, (before, after) in found.items():
        table.add_row(name, before or "", after or "")
    Console().print(table)


@readable_errors
def promote(
    data: Annotated[str, typer.Argument(help="Data set to judge by, prepared or not.")],
    candidate: Annotated[
        str, typer.Option(help="The version that may become champion.")
    ] = "models:/deblur-unet@candidate",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    subset: Subset = "blur",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide, and change nothing in the registry.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let the candidate be the champion if it is better on the same pictures, and harmless.

    Exits with 0 if it is promoted or the champion already, with 3 if it is refused, with 2 if it
    could not be measured.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from deblur.gates.decision import decision_markdown
    from deblur.gates.trial import promote as promote_version
    from deblur.progress import for_terminal

    trial = promote_version(data, candidate, split, parse_subset(subset), dry_run, for_terminal())
    decision, number = trial.decision, trial.version.version
    if as_json:
        typer.echo(json.dumps(decision.plain() if decision else None))
    elif decision is not None:
        Console().print(Markdown(decision_markdown(decision)))
    if decision is None:
        said = f"version {number} is the champion already"
    elif not decision.promoted:
        said = f"version {number} is refused: {decision.reason}"
    elif dry_run:
        said = f"version {number} would be promoted; nothing was changed"
    else:
        before = f", version {trial.replaced.version} is previous" if trial.replaced else ""
        said = f"version {number} is champion{before}"
    typer.echo(said, err=as_json)
    if decision is not None and not decision.promoted:
        raise typer.Exit(REFUSED)


@readable_errors
def rollback(
    to: Annotated[
        str | None, typer.Option(help="The version to go back to. [default: @previous]")
    ] = None,
) -> None:
    """Let the champion before be the champion again; once more takes it back."""
    from deblur.card import publish_card
    from deblur.champion import roll_back
    from deblur.registry import find_version

    now, before = roll_back(to)
    for version in (now, before):
        publish_card(find_version(version.address))
    typer.echo(
        f"version {now.version} is champion, version {before.version} is previous; servers of "
        "@champion take it within their reload_seconds"
    )


@readable_errors
def fetch(
    address: Annotated[str, typer.Argument(help="As models:/deblur-unet@candidate.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    plain: Annotated[
        bool, typer.Option("--plain", help="Without what tuning chose: as it was registered.")
    ] = False,
) -> None:
    """Download a registered model's ONNX file, and the setting beside it if it was tuned."""
    from deblur.registry import fetch_model

    typer.echo(str(fetch_model(address, out, tuned=not plain)))


def _plain(version: "Version") -> dict[str, Any]:
    tags = {name: value for name, value in version.tags.items() if name != "contract"}
    return {
        "name": version.name, "version": version.version, "run_id": version.run_id,
        "aliases": list(version.aliases), "created": version.created, "figures": version.figures,
        "tags": tags,
    }  # fmt: skip


def _comparable(version: "Version", params: Any) -> dict[str, str]:
    """What may differ, under names that sort by what they are about."""
    skipped = ("contract", "promotion", "rollback", "sha256", "serving.sha256")
    tags = {
        name: value
        for name, value in version.tags.items()
        if not name.startswith(skipped) and name not in skipped
    }
    return tags | {f"config.{name}": value for name, value in params.items()}


def _tuned(version: "Version") -> str:
    setting = version.setting
    if setting is None:
        return ""
    speed = version.tags.get("tuning.speed_up")
    return f"{setting.provider} {setting.precision}" + (f" x{float(speed):.1f}" if speed else "")


def _age(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
