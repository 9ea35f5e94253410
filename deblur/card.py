"""The model card of a registered version, as Markdown and as one HTML page without addresses
outside it; made from what run and version recorded.

The headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deblur.contract import PREFIX
from deblur.registry import SOURCES, RunRecord, Version, keep_files, read_file, run_record

#: Parameters of a run that say where and how fast, not what was trained.
_INCIDENTAL = {"workers", "save_minutes", "log_every", "keep", "checkpoint_every", "precision"}
_SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, a table with its heads, and text that is shown as it is."""

    title: str
    paragraphs: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    verbatim: str = ""


@dataclass(frozen=True)
class Card:
    """A model card: a title, a line below it, and sections."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def publish_card(version: Version) -> None:
    """Make the card anew and keep it as ``versions/<number>/card.md`` and ``card.html``.

    Raises:
        SetupError: the store cannot be reached.
    """
    decision = read_file(version, f"{version.folder}/promotion/decision.json")
    card = make_card(
        version,
        run_record(version),
        provenance=read_file(version, f"data/{SOURCES}") or "",
        decision=json.loads(decision) if decision else None,
    )
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        Path(folder, "card.md").write_text(card_markdown(card), encoding="utf-8")
        Path(folder, "card.html").write_text(card_html(card), encoding="utf-8")
        keep_files(version, Path(folder))


def make_card(
    version: Version,
    run: RunRecord,
    provenance: str = "",
    decision: Mapping[str, Any] | None = None,
) -> Card:
    """What is known of a version, in the order in which a reader asks.

    Args:
        version: with its tags.
        run: what its run recorded.
        provenance: Markdown on where the training pictures come from.
        decision: of a promotion, as ``Decision.plain`` gives it.
    """
    made = datetime.fromtimestamp(version.created, UTC).date().isoformat()
    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    sections = (
        _what(version),
        _figures(version),
        _limits(version),
        _checks(decision),
        _serving(version),
        _data(version, provenance),
        _training(version, run),
        _network(version),
        _origin(version, run),
    )
    return Card(
        title=f"{version.name}, version {version.version}",
        subtitle=f"registered {made}{aliases}",
        sections=tuple(section for section in sections if section is not None),
    )


def card_markdown(card: Card) -> str:
    """The card as Markdown."""
    lines = [f"# {card.title}", "", card.subtitle, ""]
    for section in card.sections:
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        if section.rows:
            heads = section.heads or ("",) * len(section.rows[0])
            for row in (heads, ("---",) * len(heads), *section.rows):
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
            lines.append("")
        if section.verbatim:
            lines += [_deeper(section.verbatim.strip()), ""]
    return "\n".join(lines).rstrip() + "\n"


def card_html(card: Card) -> str:
    """The card as one HTML page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("card.html.j2").render(card=card)


def _what(version: Version) -> Section:
    tags = version.tags
    contract = _contract(version)
    return Section(
        "What it is",
        (
            "A convolutional network that takes a photograph blurred by motion and returns it "
            f"sharper, at the same size: {tags.get('architecture', 'unknown architecture')}, "
            f"{int(tags.get('model.parameters', 0)):,} parameters. It runs on a CPU over "
            f"tiles of {contract.get('tile', 'unknown')} pixels, so pictures may have any size.",
            f"Serve it with  `deblur serve --model {version.address}`,  deblur files with  "
            f"`deblur predict photo.jpg sharp.jpg --model {version.address}`,  or take the file "
            f"with  `deblur fetch {version.address} model.onnx`.",
        ),
    )


def _figures(version: Version) -> Section:
    figures = version.figures
    rows: list[tuple[str, ...]] = []
    for split in _SPLITS:
        for metric, unit, places in (("psnr", " dB", 2), ("ssim", "", 4)):
            if f"{split}_{metric}" not in figures:
                continue
            ours = figures[f"{split}_{metric}"]
            blurred = figures.get(f"{split}_blurred_{metric}")
            exported = version.tags.get(f"exported.{split}_{metric}")
            rows.append(
                (
                    f"{metric.upper()}, {split} pictures",
                    "" if blurred is None else f"{blurred:.{places}f}{unit}",
                    f"{ours:.{places}f}{unit}",
                    "" if blurred is None else f"{ours - blurred:+.{places}f}{unit}",
                    "" if exported is None else f"{float(exported):.{places}f}{unit}",
                )
            )
    about = (
        f"Means over whole pictures of {_data_words(version)}, through the server's tiles with the "
        "setting below, beside the blurred input's own. A figure belongs to its data: blur made in "
        "another way gives another."
    )
    heads: tuple[str, ...] = ("", "blurred input", "as served", "gain", "as exported, untuned")
    if not any(row[4] for row in rows):
        heads, rows = heads[:4], [row[:4] for row in rows]
    return Section("Figures", (about,), heads, tuple(rows))


def _limits(version: Version) -> Section:
    simulated = version.tags.get("data.kind") == "simulated"
    learned = (
        "It has learned from simulated blur. Blur of real cameras differs: expect less than the "
        "figures say, and look at results on your own pictures first."
        if simulated
        else "It has learned from recorded blur. Other cameras and longer exposures differ."
    )
    return Section(
        "Intended use and limits",
        (
            "For photographs blurred by a moving camera or moving things. Not for defocus, noise, "
            "or damage by compression.",
            learned,
            "What was lost in the blur is guessed from what was seen in training: do not read "
            "number plates, faces, text or medical findings from a result as if it were recorded.",
        ),
    )


def _checks(decision: Mapping[str, Any] | None) -> Section | None:
    if decision is None:
        return None
    rows = tuple(
        (
            check["name"],
            _measured(check["value"], check["unit"]),
            f"{check['kind']} {check['bound']:g} {check['unit']}".strip(),
            "passed" if check["passed"] else "failed",
            check["about"],
        )
        for check in decision["checks"]
    )
    data = decision["data"]
    return Section(
        "Harm, seams and promotion",
        (
            f"{'Promoted' if decision['promoted'] else 'Refused'} on {decision['decided']}: "
            f"{decision['reason']}. Measured on {decision['pictures']} pictures of "
            f"{decision['scenes']} scenes, split {data['split']}, manifest "
            f"{data['digest'][:12]}.",
        ),
        ("check", "measured", "allowed", "", ""),
        rows,
    )


def _serving(version: Version) -> Section:
    setting, tags, contract = version.setting, version.tags, _contract(version)
    if setting is None:
        return Section(
            "Serving",
            (
                f"Not tuned: onnxruntime's CPU provider in fp32, tiles of {contract.get('tile')} "
                f"with an overlap of {contract.get('overlap')} pixels. `deblur tune` finds a "
                "faster setting.",
            ),
        )
    rows = [("setting", setting.sentence())]
    for name, value in sorted(tags.items()):
        if name.startswith("tuning."):
            rows.append((name.removeprefix("tuning.").replace("_", " "), value))
    about = "Tuned: the fastest setting that keeps the quality, measured on the machine named."
    return Section("Serving", (about,), (), tuple(rows))


def _data(version: Version, provenance: str) -> Section:
    pairs = json.loads(version.tags.get("data.pairs", "{}"))
    counts = ", ".join(f"{count} {split}" for split, count in pairs.items())
    rows = (
        ("blur", _data_words(version)),
        ("pairs", counts or "not recorded"),
        ("manifest", version.tags.get("data.digest", "not recorded")),
    )
    about = (
        "Where the pictures come from, as the data set says it:"
        if provenance
        else "The data set does not say where its pictures come from."
    )
    return Section("Training data", (about,), (), rows, provenance)


def _training(version: Version, run: RunRecord) -> Section:
    rows = [("recipe", run.params.get("recipe", "not recorded"))]
    if "training.hours" in version.tags:
        rows.append(("hours", f"{float(version.tags['training.hours']):.2f}"))
    rows.append(("hardware", version.tags.get("training.hardware", "not recorded")))
    for name, value in sorted(run.params.items()):
        if name not in _INCIDENTAL | {"recipe"}:
            rows.append((name.replace("_", " "), value))
    return Section("Training", (), (), tuple(rows))


def _network(version: Version) -> Section:
    contract, tags = _contract(version), version.tags
    size = int(tags.get("model.bytes", 0)) / 1e6
    rows = [
        ("architecture", tags.get("architecture", "not recorded")),
        ("parameters", f"{int(tags.get('model.parameters', 0)):,}"),
        ("file", f"{size:.1f} MB, ONNX"),
    ]
    for name in ("norm", "tiling", "train_crop", "multiple", "form", "value_range", "colour_order"):
        if name in contract:
            rows.append((name.replace("_", " "), str(contract[name])))
    return Section("Network", (), (), tuple(rows))


def _origin(version: Version, run: RunRecord) -> Section:
    tags = version.tags
    rows = (
        ("code", tags.get("code.revision", "not recorded")),
        ("configuration", tags.get("config.digest", "not recorded")),
        ("run", version.run_id),
        ("SHA-256 of the exported file", tags.get("sha256", "not recorded")),
        ("SHA-256 of the served file", tags.get("serving.sha256", tags.get("sha256", ""))),
        ("trained with", f"torch {run.tags.get('env.torch', 'not recorded')}"),
    )
    licence = (
        "The program that made it is under the Apache License 2.0. What the weights may be used "
        "for depends on the training pictures too: their licences are with their sources."
    )
    return Section("Origin and licence", (licence,), (), rows)


def _contract(version: Version) -> dict[str, Any]:
    """The contract's plain values, as far as the version carries it."""
    text: Mapping[str, str] = json.loads(version.tags.get("contract", "{}"))
    return {key.removeprefix(PREFIX): json.loads(value) for key, value in text.items()}


def _data_words(version: Version) -> str:
    kind, subset = version.tags.get("data.kind"), version.tags.get("data.subset")
    return f"{kind or 'unknown'} blur, subset {subset or 'unknown'}"


def _measured(value: float | None, unit: str) -> str:
    return f"{value:.3g} {unit}".strip() if value is not None else "not known"


def _deeper(markdown: str) -> str:
    """Headings two levels deeper, so that they stand below the card's own."""
    lines: Sequence[str] = markdown.splitlines()
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in lines)
