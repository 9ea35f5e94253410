"""What a batch came to, summed up from its records: JSON and Markdown beside them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from deblur.batch.config import BatchConfig
from deblur.batch.manifest import Entry, read_manifest
from deblur.batch.records import Record, read_records
from deblur.batch.store import patiently
from deblur.data.storage import write_file
from deblur.errors import DataError

#: Failures that the Markdown and the terminal show; the JSON has all of them.
SHOWN = 100


@dataclass(frozen=True)
class Failure:
    """A picture without a result, and why."""

    name: str
    sentence: str


@dataclass(frozen=True)
class BatchReport:
    """A batch, or one shard of it, over all starts it took.

    Attributes:
        source, target, model: addresses.
        sha256: of the model; empty if nothing has been done.
        shard: as ``0/1``; ``all`` of a merged report.
        pictures: in the source; ``done + failed + remaining``.
        computed, skipped: of those done, by this start and by earlier ones.
        others: files of the source that are no pictures by their names.
        megapixels: of the pictures done.
        seconds: that machines spent, added up: two machines for an hour spend two hours. What a
            killed one spent on its last pictures is missing.
        seconds_per_megapixel: 0 if nothing has been done.
        price_per_hour, cost, cost_per_megapixel: in the currency of the price, if one was named.
        failures: pictures that could not be deblurred.
    """

    source: str
    target: str
    model: str
    sha256: str
    shard: str
    pictures: int
    done: int
    computed: int
    skipped: int
    failed: int
    remaining: int
    others: int
    megapixels: float
    seconds: float
    seconds_per_megapixel: float
    price_per_hour: float | None
    cost: float | None
    cost_per_megapixel: float | None
    failures: tuple[Failure, ...]

    def markdown(self) -> str:
        """The report for people."""
        rows = {
            "source": f"`{self.source}`",
            "target": f"`{self.target}`",
            "model": f"`{self.model}` ({self.sha256[:12] or 'nothing done'})",
            "pictures done": f"{self.done} of {self.pictures}",
            "of these before this start": str(self.skipped),
            "failed": str(self.failed),
            "remaining": str(self.remaining),
            "megapixels": f"{self.megapixels:.2f}",
            "seconds": f"{self.seconds:.1f}",
            "seconds a megapixel": f"{self.seconds_per_megapixel:.3f}",
        }
        if self.cost is not None and self.cost_per_megapixel is not None:
            rows["cost"] = f"{self.cost:.4f} at {self.price_per_hour:g} an hour"
            rows["cost a megapixel"] = f"{self.cost_per_megapixel:.6f}"
        lines = [f"# Batch, shard {self.shard}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows.items()]
        if self.failures:
            lines += ["", "| picture | why it failed |", "|---|---|"]
            lines += [f"| {_cell(f.name)} | {_cell(f.sentence)} |" for f in self.failures[:SHOWN]]
        if len(self.failures) > SHOWN:
            lines += ["", f"{len(self.failures) - SHOWN} more are in `report.json`."]
        return "\n".join(lines) + "\n"

    def sentence(self) -> str:
        """The report in a line."""
        cost = "" if self.cost is None else f", {self.cost:.4f} at {self.price_per_hour:g} an hour"
        return (
            f"{self.done} of {self.pictures} pictures are in {self.target} "
            f"({self.computed} now, {self.skipped} before), {self.failed} failed"
            + (f", {self.remaining} remain" if self.remaining else "")
            + f"; {self.megapixels:.2f} megapixels, {self.seconds_per_megapixel:.2f} s each{cost}"
        )


def make_report(
    config: BatchConfig,
    shard: str,
    entries: Iterable[Entry],
    records: Iterable[Record],
    by: tuple[str, str] | None,
    others: int = 0,
    computed: int = 0,
) -> BatchReport:
    """Sum up.

    Args:
        config: of the batch.
        shard: what the report is of.
        entries: the pictures that were to be done.
        records: what was done.
        by: digests of model and settings whose results count; ``None`` for the latest.
        others: files that are no pictures.
        computed: pictures done by this start.
    """
    names = {entry.name for entry in entries}
    known = [record for record in records if record.name in names]
    if by is None:
        latest = max((r for r in known if not r.error), key=lambda r: r.at, default=None)
        by = (latest.model, latest.settings) if latest else ("", "")
    done = [record for record in known if record.is_by(*by)]
    failures = tuple(Failure(r.name, r.error) for r in known if r.error)
    megapixels = sum(record.megapixels for record in done)
    seconds = sum(record.seconds for record in done) + sum(r.seconds for r in known if r.error)
    each = seconds / megapixels if megapixels else 0.0
    price = config.price_per_hour
    return BatchReport(
        source=config.source,
        target=config.target,
        model=config.model,
        sha256=by[0] if done else "",
        shard=shard,
        pictures=len(names),
        done=len(done),
        computed=computed,
        skipped=len(done) - computed,
        failed=len(failures),
        remaining=len(names) - len(done) - len(failures),
        others=others,
        megapixels=megapixels,
        seconds=seconds,
        seconds_per_megapixel=each,
        price_per_hour=price,
        cost=None if price is None else seconds * price / 3600,
        cost_per_megapixel=None if price is None else each * price / 3600,
        failures=failures,
    )


def write_report(config: BatchConfig, report: BatchReport, name: str = "report") -> None:
    """``report.json`` and ``report.md`` into the folder of the batch."""
    contents = {
        "json": json.dumps(asdict(report), indent=1) + "\n",
        "md": report.markdown(),
    }
    for suffix, content in contents.items():
        file, encoded = config.folder / f"{name}.{suffix}", content.encode("utf-8", "replace")
        patiently(lambda f=file, c=encoded: write_file(f, c), f"write {file}")  # type: ignore[misc]


def merge_reports(config: BatchConfig, computed: int = 0) -> BatchReport:
    """The report of all shards, whichever have run so far, written and returned.

    Raises:
        DataError: no shard has begun, or the store cannot be reached.
    """
    manifest = read_manifest(config)
    if manifest is None:
        raise DataError(
            f"{config.folder} holds no manifest of {config.source}: run a shard, or all, first"
        )
    records = sorted(read_records(config.folder).values(), key=lambda record: record.name)
    report = make_report(config, "all", manifest.entries, records, None, manifest.others, computed)
    write_report(config, report)
    return report


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
