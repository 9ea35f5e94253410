"""``deblur serve``."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from deblur.cli.common import readable_errors


@readable_errors
def serve(
    model: Annotated[
        str | None, typer.Option(help="ONNX file or models:/ address.", show_default=False)
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
    from deblur.predictors import local_model
    from deblur.serving.app import create_app
    from deblur.serving.config import ServerConfig
    from deblur.serving.engine import Engine
    from deblur.serving.logs import JsonFormatter
    from deblur.serving.server import listen, run_server
    from deblur.settings import parse_overrides

    given = {"model": model, "host": host, "port": port, "threads": threads}
    given = {key: value for key, value in given.items() if value is not None}
    settings = ServerConfig.load({**given, **parse_overrides(overrides or [])}, os.environ, config)
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    with listen(settings.host, settings.port) as listener:
        with local_model(settings.model) as path:
            engine = Engine(path, settings.threads)
        app = create_app(engine, settings.limits, settings.queue_megapixels)
        run_server(app, listener, settings.drain_seconds)
