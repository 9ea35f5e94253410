"""The ASGI application: the service behind its routes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

import deblur
from deblur.errors import DeblurError
from deblur.images import Limits
from deblur.serving.drift import DriftWatch
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import JobSettings
from deblur.serving.jobs.runner import Jobs
from deblur.serving.keys import Keys, RequireKey
from deblur.serving.logs import RequestLog
from deblur.serving.routes.inference import inference_routes
from deblur.serving.routes.jobs import jobs_routes
from deblur.serving.routes.operations import operation_routes
from deblur.serving.routes.page import page_routes
from deblur.serving.routes.pictures import picture_routes
from deblur.serving.routes.requests import problem_answer
from deblur.serving.service import Service
from deblur.serving.telemetry import Telemetry

#: Something that lasts as long as requests are answered.
Beside = Callable[[Service], AbstractAsyncContextManager[None]]

#: What a web page elsewhere may read of an answer.
_EXPOSED = [
    "Retry-After", "Server-Timing", "X-Deblur-Model", "X-Deblur-Plan", "X-Deblur-Seconds",
    "X-Deblur-Tiles", "X-Deblur-Version", "X-Request-ID",
]  # fmt: skip


def create_app(
    engine: Engine,
    limits: Limits = Limits(),
    queue_megapixels: float | None = None,
    *,
    version: str = "",
    keys: Keys | None = None,
    cors_origins: Sequence[str] = (),
    jobs: JobSettings | None = None,
    watch: Callable[..., DriftWatch] = DriftWatch,
    telemetry: Telemetry | None = None,
    beside: Sequence[Beside] = (),
) -> FastAPI:
    """The ASGI application that serves ``engine`` to pictures within ``limits``.

    Args:
        engine: what computes tiles.
        limits: what pictures are accepted.
        queue_megapixels: taken on at once, see ``Service``.
        version: the number under which the model is registered, if it is.
        keys: who may call; by default everybody.
        cors_origins: web pages elsewhere that may call.
        jobs: where jobs are kept; by default there is no such interface.
        watch: makes the watch over what comes in.
        telemetry: what measures it.
        beside: what else runs while requests are answered.

    Returns:
        the application; ``app.state.service`` is its ``Service``, ``app.state.failure`` the error
        for which it could not start.
    """
    service = Service(engine, limits, queue_megapixels, telemetry, version, watch)

    kept = Jobs(service, jobs) if jobs else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.start)
        try:
            async with AsyncExitStack() as stack:
                try:
                    if kept:
                        await kept.start()
                        stack.push_async_callback(kept.stop)
                    for each in beside:
                        await stack.enter_async_context(each(service))
                except DeblurError as error:
                    app.state.failure = error
                    raise
                yield
        finally:
            await anyio.to_thread.run_sync(service.close)

    app = FastAPIOffline(
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # would be sent to a server elsewhere
        title="deblur",
        version=deblur.__version__,
        summary="Deblurs photographs of any size on a CPU.",
        lifespan=lifespan,
    )
    app.state.service, app.state.failure = service, None
    # The last one added sees a request first.
    if keys:
        app.add_middleware(RequireKey, keys=keys)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=_EXPOSED,
        )
    app.add_middleware(RequestLog, telemetry=service.telemetry)

    @app.exception_handler(DeblurError)
    async def readable(_: Request, error: DeblurError) -> Response:
        return problem_answer(error)

    @app.exception_handler(RequestValidationError)
    async def out_of_range(_: Request, error: RequestValidationError) -> Response:
        problems = (f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    app.include_router(picture_routes(service))
    if kept:
        app.include_router(jobs_routes(service, kept))
    app.include_router(inference_routes(service))
    app.include_router(operation_routes(service))
    app.include_router(page_routes())
    return app
