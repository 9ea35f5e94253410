"""The report for people: one page that needs nothing else, and a summary in Markdown."""

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblur.data.validation.config import CHECKS, advice, unit
from deblur.data.validation.findings import Entry, Finding
from deblur.data.validation.histogram import Histogram, histogram
from deblur.data.validation.pictures import Shown, show_detail, show_whole
from deblur.data.validation.run import Validation

#: Findings of one check that are shown with pictures.
_SHOWN = 6
#: Checks whose smallest values are the worst; of copies, the surest.
_LOW_IS_WORST = frozenset(
    {"different_content", "dark", "flat", "psnr_low", "too_small", "leakage", "duplicate"}
)
#: Checks that need a look at the pixels; the others show whole pictures.
_IN_DETAIL = frozenset({"identical", "swapped", "misaligned", "psnr_low", "psnr_outlier"})


@dataclass(frozen=True)
class Figure:
    """Pictures side by side with what is said about them."""

    title: str
    shown: tuple[Shown, ...]
    text: str
    values: str = ""


@dataclass(frozen=True)
class Section:
    """All that is said about one check."""

    check: str
    severity: str
    advice: str
    count: int
    figures: tuple[Figure, ...]


def render(validation: Validation, entries: Sequence[Entry]) -> str:
    """The page in HTML: no address outside it, no script.

    Args:
        validation: what was found.
        entries: the pairs it was found on, whose pictures are read once more to be shown.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        validation=validation,
        verdict=verdict(validation),
        splits=_split_rows(validation),
        checks=_check_rows(validation),
        sections=_sections(validation, entries),
        examples=_examples(entries),
        histograms=_histograms(validation, entries),
        shown=_SHOWN,
    )


def verdict(validation: Validation) -> str:
    """One sentence: whether it can be trained on."""
    errors, warnings = len(validation.errors), len(validation.warnings)
    if errors:
        return f"Not usable: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}"
    if warnings:
        return f"Usable, with {_counted(warnings, 'warning')} to look at"
    return "Usable: nothing was found wrong"


def markdown_summary(validation: Validation) -> str:
    """Verdict, splits and findings as Markdown tables."""
    lines = [
        f"# {verdict(validation)}", "",
        f"`{_inline(validation.data)}`: layout {_inline(validation.layout)}, subset "
        f"{validation.subset}, crop {validation.crop} px, checked {validation.created}", "",
        "| split | pairs | scenes | sizes | mean PSNR of blurred |", "|---|---:|---:|---|---:|",
    ]  # fmt: skip
    for row in _split_rows(validation):
        lines.append("| " + " | ".join(_inline(cell) for cell in row.values()) + " |")
    counts = Counter(f.check for f in validation.findings)
    if counts:
        lines += ["", "| check | severity | found | for example | what to do |"]
        lines += ["|---|---|---:|---|---|"]
    for check, count in counts.items():
        first = next(f for f in validation.findings if f.check == check)
        lines.append(
            f"| {check} | {first.severity} | {count} | {_inline(first.message)} | {first.advice} |"
        )
    if validation.report:
        lines += ["", f"With pictures: `{_inline(str(validation.report))}`"]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """Text that neither ends a table's cell nor is taken for markup."""
    return html.escape(" ".join(text.split())).replace("|", "&#124;").replace("`", "&#96;")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _split_rows(validation: Validation) -> list[dict[str, str]]:
    rows = []
    for split, pairs in validation.pairs.items():
        size = validation.statistics[split].get("size")
        small, large = (
            "x".join(map(str, size[k])) if size else "" for k in ("smallest", "largest")
        )
        mean = validation.blurred_psnr[split]
        rows.append(
            {
                "split": split,
                "pairs": f"{pairs:,}",
                "scenes": f"{validation.scenes[split]:,}",
                "sizes": small if small == large else f"{small} to {large}",
                "psnr": "" if math.isnan(mean) else f"{mean:.2f} dB",
            }
        )
    return rows


def _check_rows(validation: Validation) -> list[dict[str, Any]]:
    counts = Counter(f.check for f in validation.findings)
    rows = []
    for check in CHECKS:
        rule = getattr(validation.config, check)
        limit = "" if rule.threshold is None else f"{rule.threshold:g} {unit(check)}"
        rows.append(
            {
                "check": check, "severity": rule.severity, "threshold": limit,
                "count": counts[check], "advice": advice(check),
            }
        )  # fmt: skip
    return rows


def _sections(validation: Validation, entries: Sequence[Entry]) -> list[Section]:
    of_picture = {picture: entry for entry in entries for picture in entry.pictures}
    sections = []
    for check in CHECKS:
        found = [f for f in validation.findings if f.check == check]
        if found:
            figures = tuple(_figure(f, of_picture) for f in _worst(found)[:_SHOWN])
            section = Section(check, found[0].severity, advice(check), len(found), figures)
            sections.append(section)
    return sections


def _worst(findings: Sequence[Finding]) -> list[Finding]:
    sign = 1 if findings[0].check in _LOW_IS_WORST else -1
    return sorted(findings, key=lambda f: 0.0 if f.value is None else sign * abs(f.value))


def _figure(finding: Finding, of_picture: dict[str, Entry]) -> Figure:
    held = [of_picture.get(picture) for picture in finding.pictures]
    entry = held[0] if held else None
    if not finding.pictures:
        return Figure("", (), finding.message)
    if entry is None:
        lone = show_whole(finding.pictures[0], "found")
        title = Path(finding.pictures[0]).name
        return Figure(title, (lone, Shown("no counterpart")), finding.message)
    title = f"{entry.split} · {entry.title}"
    if len(held) == 2 and held[1] is not None and held[1] is not entry:
        twins = tuple(
            show_whole(picture, f"{twin.split} · {twin.title}")
            for picture, twin in zip(finding.pictures, held, strict=True)
            if twin is not None
        )
        return Figure(title, twins, finding.message, _values(entry))
    if finding.check in _IN_DETAIL:
        return Figure(title, show_detail(*entry.pictures), finding.message, _values(entry))
    blurred, sharp = entry.pictures
    whole = (show_whole(blurred, "blurred"), show_whole(sharp, "sharp"))
    return Figure(title, whole, finding.message, _values(entry))


def _values(entry: Entry) -> str:
    """The measures of a pair in one line."""
    measures = entry.measures
    parts = []
    if measures.sharp.width:
        parts.append(f"{measures.sharp.width}x{measures.sharp.height}")
    if measures.psnr is not None:
        parts.append(f"{measures.psnr:.1f} dB")
    if measures.shift is not None:
        parts.append(f"displaced {math.hypot(*measures.shift):.1f} px")
    if measures.similarity is not None:
        parts.append(f"agreement {measures.similarity:.2f}")
    if measures.sharp.width:
        parts.append(f"level {measures.sharp.level:.0f}")
    return ", ".join(parts)


def _examples(entries: Sequence[Entry]) -> list[Figure]:
    """The pairs of lowest, median and highest PSNR: for a person to see what the data is."""
    ranked = sorted(
        (entry for entry in entries if entry.measures.psnr is not None),
        key=lambda entry: entry.measures.psnr or 0.0,
    )
    if not ranked:
        return []
    places = {"lowest PSNR": 0, "median": (len(ranked) - 1) // 2, "highest PSNR": len(ranked) - 1}
    return [
        Figure(f"{ranked[at].split} · {ranked[at].title}", show_detail(*ranked[at].pictures),
               name, _values(ranked[at]))
        for name, at in places.items()
    ]  # fmt: skip


def _histograms(validation: Validation, entries: Sequence[Entry]) -> list[Histogram]:
    marked = {
        picture
        for finding in validation.findings
        if finding.check in ("psnr_low", "psnr_outlier")
        for picture in finding.pictures
    }
    values: dict[str, list[tuple[float, bool]]] = {split: [] for split in validation.pairs}
    for entry in entries:
        if entry.measures.psnr is not None:
            outlier = bool(marked & set(entry.pictures))
            values[entry.split].append((entry.measures.psnr, outlier))
    return histogram(values)
