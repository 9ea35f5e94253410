"""Validation from the listing to the report."""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deblur.atomic import whole_file
from deblur.cpus import worker_threads
from deblur.data.layout import Averaging
from deblur.data.listing import Listing, Pair, list_data, state_of_pair
from deblur.data.storage import Location
from deblur.data.validation.checks import check_data, distributions
from deblur.data.validation.config import ValidationConfig
from deblur.data.validation.findings import Entry, Finding
from deblur.data.validation.measure import PairMeasures, measure, open_measures
from deblur.data.validation.reference import REPORT, read_reference
from deblur.errors import DataError
from deblur.progress import SILENT, Progress

PAGE = "report.html"
#: Errors that the exception lists.
_LISTED = 10


@dataclass(frozen=True)
class Validation:
    """What a data set holds and what is wrong with it.

    Attributes:
        data: its address, ``subset`` and ``crop`` as asked for, ``layout`` as found.
        config: the rules that were applied.
        created: when, ISO 8601 in UTC.
        pairs, scenes: numbers by split.
        blurred_psnr: mean PSNR in dB of the blurred pictures against the sharp ones, by split,
            over the pairs without an error; NaN if there are none.
        statistics: minimum, median and maximum of each measure by split, over readable pairs.
        findings: all that was found, errors and warnings, in the order of ``config.CHECKS``.
        report: the page for people, or ``None`` if no folder was given.
    """

    data: str
    subset: str
    layout: str
    crop: int
    config: ValidationConfig
    created: str
    pairs: dict[str, int]
    scenes: dict[str, int]
    blurred_psnr: dict[str, float]
    statistics: dict[str, dict[str, Any]]
    findings: tuple[Finding, ...]
    report: Path | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def usable(self) -> bool:
        return not self.errors

    def require_usable(self) -> None:
        """Refuse a data set with errors.

        Raises:
            DataError: lists up to ten errors and says where the report is.
        """
        if self.usable:
            return
        shown = [f"{f.check}: {f.message}. {f.advice}" for f in self.errors[:_LISTED]]
        more = len(self.errors) - _LISTED
        counted = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        raise DataError(
            f"{self.data} cannot be trained on, {counted} in {sum(self.pairs.values())} pairs:\n  "
            + "\n  ".join(shown)
            + (f"\n  and {more} more" if more > 0 else "")
            + (f"\nAll of them, with pictures: {self.report}" if self.report else "")
        )


def validate_data(
    data: str | Location,
    subset: Averaging = "blur",
    crop: int = 256,
    config: ValidationConfig = ValidationConfig(),
    reference: Path | None = None,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> Validation:
    """Look at every pair of a data set and say what is wrong.

    Args:
        data: as ``list_data`` takes it.
        subset: which of several blurred folders to look at.
        crop: side of the training crops in pixels; every picture must be at least as large.
        config: which checks are made, how grave they are and where their limits lie.
        reference: folder or ``report.json`` of an earlier validation, or a prepared data set, to
            compare with.
        out: folder for ``report.json``, ``report.html`` and ``measures.jsonl``. An interrupted
            validation goes on there, and a repeated one measures only what has changed.
        progress: shows the pairs.

    Raises:
        DataError: there is no such data, its store cannot be reached, or ``reference`` holds no
            report.
    """
    known = None if reference is None else read_reference(reference)
    listing = list_data(data, subset)
    entries = _measured(listing, out, progress)
    findings = check_data(listing, entries, crop, config, known)
    erring = {p for f in findings if f.severity == "error" for p in f.pictures}
    validation = Validation(
        data=str(data),
        subset=subset,
        layout=listing.layout,
        crop=crop,
        config=config,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pairs={split: len(pairs) for split, pairs in listing.splits.items()},
        scenes={split: len({p.scene for p in pairs}) for split, pairs in listing.splits.items()},
        blurred_psnr={
            split: _mean_psnr([e for e in entries if e.split == split], erring)
            for split in listing.splits
        },
        statistics={
            split: _statistics([e.measures for e in entries if e.split == split and e.readable])
            for split in listing.splits
        },
        findings=tuple(findings),
        report=None if out is None else out / PAGE,
    )
    if out is not None:
        from deblur.data.validation.report import render

        pages = {PAGE: render(validation, entries), REPORT: _json(validation, entries)}
        for name, text in pages.items():
            with whole_file(out / name) as partial:
                # A file name may hold bytes that are no UTF-8.
                partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    return validation


def _measured(listing: Listing, out: Path | None, progress: Progress) -> list[Entry]:
    """Every pair measured, in the order of the listing."""
    pairs = [(split, pair) for split, held in listing.splits.items() for pair in held]
    entries: list[Entry] = []
    stamps: list[list[str] | None] = []
    with open_measures(out) if out is not None else nullcontext() as journal:

        def look(pair: Pair) -> tuple[list[str] | None, PairMeasures, bool]:
            if journal is None:
                return None, measure(pair), False
            stamped = state_of_pair(pair)
            found = journal.find(pair, stamped)
            return stamped, found or measure(pair), found is not None

        with progress.task("validate", len(pairs), "pairs") as advance, worker_threads() as pool:
            results = pool.map(look, [pair for _, pair in pairs])
            for (split, pair), (stamped, measures, kept) in zip(pairs, results, strict=True):
                if journal is not None and not kept:
                    journal.append(pair, stamped, measures)
                entries.append(Entry(split, pair, measures))
                stamps.append(stamped)
                advance(1, split)
        if journal is not None:
            journal.replace(
                (entry.pair, stamped, entry.measures)
                for entry, stamped in zip(entries, stamps, strict=True)
            )
    return entries


def _mean_psnr(entries: Sequence[Entry], erring: set[str]) -> float:
    values = [
        entry.measures.psnr
        for entry in entries
        if entry.measures.psnr is not None and not erring & set(entry.pictures)
    ]
    return float(np.mean(values)) if values else float("nan")


def _statistics(measures: Sequence[PairMeasures]) -> dict[str, Any]:
    sides = sorted({(m.sharp.width, m.sharp.height) for m in measures}, key=lambda s: s[0] * s[1])
    values = {
        "psnr": [m.psnr for m in measures if m.psnr is not None],
        "level": [m.sharp.level for m in measures],
        "contrast": [m.sharp.contrast for m in measures],
        "sharpness": [m.sharp.sharpness for m in measures],
        "shift": [math.hypot(*m.shift) for m in measures if m.shift is not None],
        "similarity": [m.similarity for m in measures if m.similarity is not None],
    }
    summary: dict[str, Any] = {
        key: {
            "min": round(float(np.min(of)), 3),
            "median": round(float(np.median(of)), 3),
            "max": round(float(np.max(of)), 3),
        }
        for key, of in values.items()
        if of
    }
    if sides:
        summary["size"] = {"smallest": list(sides[0]), "largest": list(sides[-1])}
    return summary


def _json(validation: Validation, entries: Sequence[Entry]) -> str:
    psnrs = {s: None if math.isnan(v) else v for s, v in validation.blurred_psnr.items()}
    content = {
        **asdict(validation),
        "blurred_psnr": psnrs,
        "usable": validation.usable,
        "config": validation.config.model_dump(mode="json"),
        "distributions": distributions(entries),
    }
    del content["report"]
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
