"""The ASGI application: the service behind its routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

import deblur
from deblur.errors import DeblurError
from deblur.images import Limits
from deblur.serving.engine import Engine
from deblur.serving.logs import RequestLog
from deblur.serving.routes.operations import operation_routes
from deblur.serving.routes.pictures import picture_routes
from deblur.serving.service import Service


def create_app(
    engine: Engine, limits: Limits = Limits(), queue_megapixels: float | None = None
) -> FastAPI:
    """The ASGI application that serves ``engine`` to pictures within ``limits``.

    ``app.state.service`` is its ``Service``.
    """
    service = Service(engine, limits, queue_megapixels)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.start)
        yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="deblur",
        version=deblur.__version__,
        summary="Deblurs photographs of any size on a CPU.",
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(RequestLog, telemetry=service.telemetry)

    @app.exception_handler(DeblurError)
    async def readable(_: Request, error: DeblurError) -> Response:
        retry_after = getattr(error, "retry_after", None)
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return JSONResponse({"detail": str(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def out_of_range(_: Request, error: RequestValidationError) -> Response:
        problems = (f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    app.include_router(picture_routes(service))
    app.include_router(operation_routes(service))
    return app
