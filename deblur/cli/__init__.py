"""The command line ``deblur``. Every command imports what it needs when it runs, so ``--help`` is
quick and loads neither torch nor MLflow.
"""

import logging
from typing import Annotated

import typer

from deblur.cli.batch import batch
from deblur.cli.common import readable_errors
from deblur.cli.data import app as data_app
from deblur.cli.evaluation import evaluate
from deblur.cli.export import export
from deblur.cli.platform import down, status, up
from deblur.cli.predict import client, predict
from deblur.cli.registry import app as registry_app
from deblur.cli.registry import fetch, promote, rollback
from deblur.cli.serving import key, serve
from deblur.cli.training import checkpoints_app, train
from deblur.cli.tuning import tune

app = typer.Typer(
    name="deblur",
    help="Motion deblurring: from pairs of photographs to a CPU picture server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.command()(up)
app.command()(status)
app.command()(down)
app.command()(train)
app.command()(predict)
app.command()(batch)
app.command()(client)
app.command()(evaluate)
app.command()(export)
app.command()(tune)
app.command()(serve)
app.command()(key)
app.command()(fetch)
app.command()(promote)
app.command()(rollback)
app.add_typer(registry_app, name="registry")
app.add_typer(checkpoints_app, name="checkpoints")


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    from deblur.cpus import sleep_when_idle
    from deblur.progress import StderrHandler

    sleep_when_idle()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[StderrHandler()],
    )
    logging.getLogger("deblur").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
@readable_errors
def doctor() -> None:
    """Check this machine, and say what mends each fault."""
    from deblur.doctor import examine, show

    if show(examine()):
        raise typer.Exit(2)
