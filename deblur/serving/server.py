"""Running the application on a port that is taken before the model is loaded."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from deblur.errors import SetupError
from deblur.serving.app import Beside, create_app
from deblur.serving.config import ServerConfig
from deblur.serving.drift import DriftWatch, Webhook
from deblur.serving.grpc import start_grpc
from deblur.serving.keys import Keys, read_keys
from deblur.serving.service import Service
from deblur.serving.source import Source, follow, look_up
from deblur.serving.telemetry import Telemetry
from deblur.serving.tracing import tracing_of

log = logging.getLogger(__name__)


def app_of(config: ServerConfig) -> FastAPI:
    """The application with its model, as configured.

    Raises:
        ModelFileError, SetupError: there is no such model, or it cannot be run here.
        ConfigError: the file of API keys cannot be read.
    """
    keys = read_keys(config.api_keys) if config.api_keys else None
    source = look_up(config.model)

    hook = _webhook(config)
    watch = partial(
        DriftWatch,
        window=config.drift_window,
        threshold=config.drift_threshold,
        on_drift=hook,
    )
    tracing = tracing_of(os.environ)
    beside: list[Beside] = [partial(_until_sent, tracing.close)]
    if hook:
        beside.append(partial(_until_sent, hook.close))
    if config.reload_seconds:
        beside.append(partial(_following, config, source))
    if config.grpc_port is not None:
        beside.append(partial(_grpc, config, keys))
    return create_app(
        source.open(config.threads),
        config.limits,
        config.queue_megapixels,
        version=source.version,
        keys=keys,
        cors_origins=config.cors_origins,
        jobs=config.jobs,
        watch=watch,
        telemetry=Telemetry(tracing),
        beside=beside,
    )


def _webhook(config: ServerConfig) -> Webhook | None:
    if config.drift_webhook is None:
        return None
    # As Prefect's own clients read it.
    authorisation = os.environ.get("PREFECT_API_AUTH_STRING")
    return Webhook(
        config.drift_webhook,
        config.drift_form,
        authorisation if config.drift_form == "prefect" else None,
    )


@asynccontextmanager
async def _until_sent(close: Callable[[], None], _: Service) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(close)


@asynccontextmanager
async def _following(config: ServerConfig, now: Source, service: Service) -> AsyncIterator[None]:
    following = asyncio.create_task(
        follow(config.model, service, now, config.threads, config.reload_seconds)
    )
    yield
    following.cancel()


@asynccontextmanager
async def _grpc(config: ServerConfig, keys: Keys | None, service: Service) -> AsyncIterator[None]:
    server, port = await start_grpc(service, config.host, config.grpc_port or 0, keys=keys)
    log.info("listening on %s:%d for gRPC", config.host, port)
    yield
    await server.stop(config.drain_seconds)


def run_server(app: FastAPI, listener: socket.socket, drain_seconds: float = 60.0) -> None:
    """Serve ``app`` on ``listener`` until stopped by a signal.

    At the first signal ``/readyz`` says 503 and new pictures are sent away, while those under way
    have ``drain_seconds`` to end. At the second it ends at once.

    Raises:
        SetupError: the folder of jobs or the port for gRPC cannot be used.
    """
    service: Service = app.state.service
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d with model %s", host, port, service.engine.sha256[:12])
    config = uvicorn.Config(
        app,
        log_config=None,  # the program's own
        access_log=False,  # RequestLog writes it
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    # What keeps it from starting is raised below, as a sentence; uvicorn would log a traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda _: app.state.failure is None)
    try:
        _DrainingServer(config, service, drain_seconds).run(sockets=[listener])
    finally:
        if app.state.failure is not None:
            raise app.state.failure


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = service, drain_seconds
        self._give_up = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if not self._service.draining:
            self._service.draining = True
            self.should_exit = False
            self._give_up = time.monotonic() + self._drain_seconds
            log.info("stopping: pictures under way have %g s to end", self._drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        if self._service.draining and (self._service.idle or time.monotonic() > self._give_up):
            self.should_exit = True
        return await super().on_tick(counter)


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
