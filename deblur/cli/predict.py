"""``deblur predict`` and ``deblur client``: pictures deblurred here, or by a server."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur.cli.common import readable_errors
from deblur.default import DEFAULT
from deblur.errors import DeblurError

if TYPE_CHECKING:
    from deblur.client import Client
    from deblur.predict import PredictReport
    from deblur.progress import Advance, Progress

Source = Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")]
Target = Annotated[Path, typer.Argument(help="The file or folder to write.")]
Overwrite = Annotated[bool, typer.Option(help="Replace files that exist.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="DEBLUR_API_KEY", help="If the server wants one.")
]


@readable_errors
def predict(
    source: Source,
    target: Target,
    model: Annotated[
        str,
        typer.Option(
            help="ONNX file, checkpoint, models:/ address, or the one that comes with the package."
        ),
    ] = DEFAULT,
    server: Annotated[
        str | None, typer.Option(help="Let a server do it, as http://127.0.0.1:8000.")
    ] = None,
    key: ApiKey = None,
    overwrite: Overwrite = False,
) -> None:
    """Deblur a picture or every picture of a folder."""
    from deblur.predict import predict_files
    from deblur.predictors import open_predictor
    from deblur.progress import for_terminal

    if server:
        _by_server(server, source, target, key, overwrite)
        return
    with open_predictor(model) as opened:
        report = predict_files(opened.predict, source, target, overwrite, for_terminal())
    _say(report, target)


@readable_errors
def client(
    server: Annotated[str, typer.Argument(help="As http://127.0.0.1:8000.")],
    source: Source,
    target: Target,
    key: ApiKey = None,
    overwrite: Overwrite = False,
) -> None:
    """Send a picture or every picture of a folder to a server: predict --server in fewer words."""
    _by_server(server, source, target, key, overwrite)


def _by_server(server: str, source: Path, target: Path, key: str | None, overwrite: bool) -> None:
    from deblur.client import Client
    from deblur.predict import deblur_files
    from deblur.progress import for_terminal

    client, progress = Client(server, key), for_terminal()
    client.ready()
    if source.is_file():
        restore = partial(_restore_with_progress, client, progress)
        report = deblur_files(restore, source, target, overwrite)
    else:
        # Two at a time: the next picture travels while the server computes.
        report = deblur_files(client.restore, source, target, overwrite, progress, side_by_side=2)
    _say(report, target)


def _restore_with_progress(
    client: "Client", progress: "Progress", file: Path, format: str
) -> bytes:
    """One picture, with the progress of its tiles."""
    with ExitStack() as shown:
        bar: Advance | None = None
        before = 0

        def on_tiles(done: int, total: int) -> None:
            nonlocal bar, before
            bar = bar or shown.enter_context(progress.task("deblur", total, "tiles"))
            bar(done - before)
            before = done

        return client.restore(file, format, on_tiles)


def _say(report: "PredictReport", target: Path) -> None:
    typer.echo(
        f"{report.written} written to {target}"
        + (f", {report.skipped} already there" if report.skipped else "")
    )
    for problem in report.problems:
        typer.secho(problem, fg="yellow", err=True)
    if report.problems:
        raise DeblurError(f"{len(report.problems)} pictures could not be deblurred, see above")
