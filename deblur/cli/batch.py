"""``deblur batch``: folders and ``s3://`` addresses of any length."""

from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import readable_errors
from deblur.default import DEFAULT
from deblur.errors import ConfigError, DeblurError

if TYPE_CHECKING:
    from deblur.batch.config import Shard
    from deblur.batch.report import BatchReport

#: Failures that are shown; the report has all of them.
_SHOWN = 20


@readable_errors
def batch(
    source: Annotated[str, typer.Argument(help="Folder of pictures, or s3://bucket/folder.")],
    target: Annotated[str, typer.Argument(help="Folder for the results, or s3://...")],
    model: Annotated[
        str,
        typer.Option(help="ONNX file, checkpoint, models:/ address, server, or the package's own."),
    ] = DEFAULT,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures computed side by side; default: as was tuned."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Work on one part alone, as 0/4 to 3/4.")
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Parts there are: of a Kubernetes Indexed Job, or of --ray."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Run on this Ray cluster, as auto or head:6379."),
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(help="Larger pictures are reported and left out.")
    ] = 100.0,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Of one machine, for the costs in the report.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace pictures of the target that no batch has written.")
    ] = False,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only list the source anew, for shards to come.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report", help="Only sum up what all shards have done so far.")
    ] = False,
    strict: Annotated[
        bool, typer.Option(help="Exit with 2 if a picture could not be deblurred.")
    ] = False,
) -> None:
    """Deblur a folder of any length; killed and started again, it goes on where it was."""
    from deblur.batch.config import BatchConfig
    from deblur.batch.manifest import list_source
    from deblur.batch.report import merge_reports
    from deblur.batch.run import run_shard
    from deblur.progress import for_terminal
    from deblur.settings import build

    values = {
        "source": source, "target": target, "model": model, "workers": workers,
        "max_megapixels": max_megapixels, "price_per_hour": price_per_hour,
        "overwrite": overwrite,
    }  # fmt: skip
    config = build(BatchConfig, values, "batch")
    if list_only:
        manifest = list_source(config)
        typer.echo(f"{len(manifest.entries)} pictures, {manifest.others} other files")
        return
    if report_only:
        report = merge_reports(config)
    elif ray is not None:
        from deblur.batch.on_ray import run_on_ray

        report = run_on_ray(config, ray, shards, for_terminal())
    else:
        report = run_shard(config, _shard(shard, shards), for_terminal())
    _say(report, strict)


def _shard(shard: str | None, shards: int | None) -> "Shard":
    from deblur.batch.config import Shard

    if shard is None:
        return Shard() if shards is None else Shard.of_job(shards)
    if shards is not None:
        raise ConfigError("--shard I/N says already how many shards there are: leave --shards out")
    return Shard.parse(shard)


def _say(report: "BatchReport", strict: bool) -> None:
    typer.echo(report.sentence())
    for failure in report.failures[:_SHOWN]:
        typer.secho(failure.sentence, fg="yellow", err=True)
    if len(report.failures) > _SHOWN:
        more = f"{len(report.failures) - _SHOWN} more are in the report"
        typer.secho(more, fg="yellow", err=True)
    if strict and report.failures:
        raise DeblurError(f"{report.failed} pictures could not be deblurred, see above")
