"""Batch deblurring: pictures without sharp ones beside them, as many as there are."""

from dataclasses import dataclass

from deblur.batch.config import BatchConfig, Shard
from deblur.batch.report import SHOWN
from deblur.batch.run import run_shard
from deblur.progress import SILENT, Progress
from deblur.settings import build


@dataclass(frozen=True)
class BatchResult:
    """What a batch, or one shard of it, came to. ``cost`` is in the currency of the price.

    ``failures`` are the names and sentences of up to 100 pictures that could not be deblurred;
    ``report`` is the folder of ``report.json``, ``summary`` the report in Markdown.
    """

    pictures: int
    done: int
    computed: int
    skipped: int
    failed: int
    megapixels: float
    seconds: float
    seconds_per_megapixel: float
    cost: float | None
    failures: tuple[tuple[str, str], ...]
    report: str
    summary: str


def batch(
    source: str,
    target: str,
    model: str,
    shard: str = "0/1",
    workers: int | None = None,
    max_megapixels: float = 100.0,
    price_per_hour: float | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> BatchResult:
    """Deblur the pictures of a folder that have not been done, all of them or one shard.

    Args:
        source, target: folders, local or ``s3://``.
        model: whatever ``deblur.predictors.open_predictor`` opens.
        shard: ``I/N``: the pictures whose names fall into part I of N, counted from 0.
        workers: pictures computed side by side; by default as the model's setting says.
        max_megapixels: larger pictures are reported and left out.
        price_per_hour: of one machine, for the costs in the report.
        overwrite: replace pictures of the target that no batch has written.
        progress: shows megapixels.

    Raises:
        DataError: there are no pictures, or a store cannot be reached.
        DeblurError: the model cannot be opened, or the target holds somebody else's pictures.
        StoppedError: a signal asked for the end; the same call goes on.
    """
    values = {
        "source": source, "target": target, "model": model, "workers": workers,
        "max_megapixels": max_megapixels, "price_per_hour": price_per_hour,
        "overwrite": overwrite,
    }  # fmt: skip
    config = build(BatchConfig, values, "batch")
    report = run_shard(config, Shard.parse(shard), progress)
    return BatchResult(
        pictures=report.pictures,
        done=report.done,
        computed=report.computed,
        skipped=report.skipped,
        failed=report.failed,
        megapixels=report.megapixels,
        seconds=report.seconds,
        seconds_per_megapixel=report.seconds_per_megapixel,
        cost=report.cost,
        failures=tuple((f.name, f.sentence) for f in report.failures[:SHOWN]),
        report=str(config.folder),
        summary=report.markdown(),
    )
