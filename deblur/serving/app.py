"""The HTTP interface."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import UploadFile

import deblur
from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import FORMATS, Limits, encode_picture, read_picture
from deblur.serving.engine import Engine
from deblur.tiling import TilePlan

_PICTURE = {"type": "string", "format": "binary"}
_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            **{media: {"schema": _PICTURE} for media in FORMATS.values()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": _PICTURE},
                    "required": ["image"],
                }
            },
        },
    }
}
_ANSWERS: dict[int | str, dict] = {
    200: {
        "description": "The deblurred picture, of the same size",
        "content": {media: {"schema": _PICTURE} for media in FORMATS.values()},
    },
    400: {"description": "No picture in the request"},
    406: {"description": "No format in Accept that can be written"},
    413: {"description": "More bytes or pixels than allowed"},
    415: {"description": "Not a picture, damaged, or of several frames"},
}


class _NotAcceptableError(DeblurError):
    status = 406


def create_app(engine: Engine, limits: Limits = Limits()) -> FastAPI:
    """The ASGI application that serves ``engine`` to pictures within ``limits``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(engine.warm_up)
        # One picture at a time: the session already uses every core.
        app.state.turn = anyio.CapacityLimiter(1)
        yield

    app = FastAPI(
        title="deblur",
        version=deblur.__version__,
        summary="Deblurs photographs of any size on a CPU.",
        lifespan=lifespan,
    )

    @app.exception_handler(DeblurError)
    async def readable(_: Request, error: DeblurError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=error.status)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="The model is loaded and warm")
    async def readyz() -> dict[str, object]:
        contract, setting = engine.contract, engine.setting
        return {
            "status": "ready",
            "model": {
                "sha256": engine.sha256,
                "architecture": contract.architecture,
                "base_ch": contract.base_ch,
                "provider": setting.provider,
                "precision": setting.precision,
                "tile": setting.tile,
                "overlap": setting.overlap,
                "metrics": dict(contract.metrics),
                "measured_on": f"{contract.data_kind} {contract.subset}",
            },
        }

    @app.post(
        "/v1/deblur",
        summary="Deblur a picture",
        openapi_extra=_REQUEST,
        responses=_ANSWERS,
        response_class=Response,
    )
    async def deblur_picture(
        request: Request, accept: Annotated[str, Header()] = "*/*"
    ) -> Response:
        """Takes a picture as the raw body or as the multipart field `image`.

        Answers in the format that `Accept` asks for, by default the picture's own.
        """
        started = time.monotonic()
        encoded = await _picture_bytes(request, limits)

        def work() -> tuple[bytes, str, int]:
            picture = read_picture(encoded, limits)
            format = _wanted_format(accept, picture.format)
            height, width = picture.rgb.shape[:2]
            plan = TilePlan(height, width, engine.setting.tile, engine.setting.overlap)
            return encode_picture(engine.deblur(picture), format), FORMATS[format], len(plan)

        content, media, tiles = await anyio.to_thread.run_sync(work, limiter=app.state.turn)
        headers = {
            "X-Deblur-Model": engine.sha256,
            "X-Deblur-Tiles": str(tiles),
            "X-Deblur-Seconds": f"{time.monotonic() - started:.3f}",
        }
        return Response(content, media_type=media, headers=headers)

    return app


async def _picture_bytes(request: Request, limits: Limits) -> bytes:
    """The picture of the raw body or of the multipart field ``image``, never above the limit."""
    # A form adds a boundary and a few headers to the picture.
    allowed = int(limits.megabytes * 2**20) + 4096
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdigit() and int(declared) > allowed):
        async for chunk in request.stream():
            body += chunk
            if len(body) > allowed:
                break
        else:
            return await _unwrapped(request, bytes(body))
    raise PictureTooLargeError(
        f"the body is larger than the limit of {limits.megabytes:g} MiB: send a smaller file"
    )


async def _unwrapped(request: Request, body: bytes) -> bytes:
    media = request.headers.get("content-type", "")
    if not media.startswith("multipart/form-data"):
        if not body:
            raise DeblurError(
                "the request has no body: send a picture as the body, or as the form field 'image'"
            )
        return body

    async def replay() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    form = await Request(request.scope, replay).form(max_files=1, max_fields=8)
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise DeblurError(
            f"the form has no file in the field 'image' (it has: {', '.join(form) or 'nothing'}): "
            "send the picture as  -F image=@photo.jpg"
        )
    return await image.read()


def _wanted_format(accept: str, own: str) -> str:
    """The format of the answer by the ``Accept`` header (RFC 9110, section 12.5.1)."""
    by_media = {media: name for name, media in FORMATS.items()}
    ranges: list[tuple[float, int, str]] = []
    for part in accept.split(","):
        media, *params = (piece.strip().lower() for piece in part.split(";"))
        weight = next((p[2:] for p in params if p.startswith("q=")), "1")
        try:
            ranges.append((-float(weight), len(ranges), media))
        except ValueError:
            raise DeblurError(f"the Accept header has a bad weight: '{part.strip()}'") from None
    for negative, _, media in sorted(ranges):
        if negative == 0:
            continue
        if media in ("*/*", "image/*", ""):
            return own
        if media in by_media:
            return by_media[media]
    raise _NotAcceptableError(
        f"cannot answer with '{accept}': ask for one of {', '.join(by_media)} or image/*"
    )
