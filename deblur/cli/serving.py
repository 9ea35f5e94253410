"""``deblur serve`` and ``deblur key``."""

import logging
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from deblur.cli.common import readable_errors


@readable_errors
def serve(
    model: Annotated[
        str | None,
        typer.Option(
            help="ONNX file or models:/ address. [default: the model that comes with the package]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of the network.", show_default=False)] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the settings of docs/serving.md.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as --set max_megapixels=50. Repeatable."),
    ] = None,
) -> None:
    """Serve a model over HTTP on the CPU.

    Each setting can also be given in the environment, as DEBLUR_MAX_MEGAPIXELS=50.
    """
    from deblur.serving.config import ServerConfig
    from deblur.serving.logs import JsonFormatter
    from deblur.serving.server import app_of, listen, run_server
    from deblur.settings import parse_overrides

    given = {"model": model, "host": host, "port": port, "threads": threads}
    given = {key: value for key, value in given.items() if value is not None}
    settings = ServerConfig.load({**given, **parse_overrides(overrides or [])}, os.environ, config)
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    with listen(settings.host, settings.port) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        run_server(app_of(settings), listener, settings.drain_seconds)


@readable_errors
def key(
    name: Annotated[str, typer.Argument(help="Of the caller, for the log. One word.")],
    per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="Megapixels that it may send a minute.")
    ] = None,
) -> None:
    """Make an API key: shown once on the terminal, and as a line for the server's file of keys."""
    from deblur.errors import DeblurError
    from deblur.serving.keys import new_key

    if not re.fullmatch(r"[^\s#]+", name):
        raise DeblurError(f"'{name}' is no name for a key: expected one word without a #")
    made, line = new_key(name, per_minute)
    typer.echo(f"the key, shown only now: {made}", err=True)
    typer.echo(line)
