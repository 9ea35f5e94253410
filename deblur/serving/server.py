"""Running the application on a port that is taken before the model is loaded."""

import logging
import os
import socket

import uvicorn

from deblur.errors import SetupError
from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine

log = logging.getLogger(__name__)


def run_server(engine: Engine, listener: socket.socket, limits: Limits = Limits()) -> None:
    """Serve ``engine`` on ``listener`` until stopped by a signal; running requests end first."""
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d with model %s", host, port, engine.sha256[:12])
    config = uvicorn.Config(
        create_app(engine, limits), log_level="info", timeout_graceful_shutdown=10
    )
    uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        SetupError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows this would take a port that is in use
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SetupError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): stop what uses the port, "
            "or choose another with --port"
        ) from None
    return listener
