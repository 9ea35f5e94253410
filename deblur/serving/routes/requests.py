"""What the interfaces that take pictures share: reading the body, the query and ``Accept``."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Header, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import FORMATS
from deblur.serving.service import Service, Wanted

Result = TypeVar("Result")

#: A form adds a boundary and a few headers to the picture.
_FORM_BYTES = 4096

#: Seconds without a byte of the body after which the client is taken for gone.
_SILENCE = 30.0

PICTURE = {"type": "string", "format": "binary"}

#: The body, for the OpenAPI description.
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **{media: {"schema": PICTURE} for media in FORMATS.values()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": PICTURE},
                    "required": ["image"],
                }
            },
        },
    }
}


class Problem(BaseModel):
    """What was found, what was expected and what to do."""

    detail: str


def problem_answer(error: DeblurError, name: str = "detail") -> JSONResponse:
    """The answer to an error, with its sentence under ``name``."""
    retry_after = getattr(error, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({name: str(error)}, error.status, headers)


def problems(**texts: str) -> dict[int | str, dict[str, Any]]:
    """Answers for the OpenAPI description: ``problems(_415="Not a picture")``."""
    described: dict[int | str, dict[str, Any]] = {}
    for key, text in texts.items():
        described[int(key[1:])] = {"description": text, "model": Problem}
        if key in ("_429", "_503"):
            described[int(key[1:])]["headers"] = {
                "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}
            }
    return described


#: What can be wrong with a request that brings a picture.
PICTURE_PROBLEMS = problems(
    _400="No picture in the request",
    _401="The server wants an API key",
    _406="No format in Accept that can be written",
    _408="The body stopped coming",
    _413="More bytes or pixels than allowed",
    _415="Not a picture, damaged, or of several frames",
    _422="A parameter is out of its range",
    _429="More work is waiting than is taken on",
    _503="The server is being stopped",
)


class NotAcceptableError(DeblurError):
    """No format that the client accepts can be written."""

    status = 406


class SilentClientError(DeblurError):
    """The body of a request stopped coming."""

    status = 408


class ClientLeftError(DeblurError):
    """The client closed the connection; nobody reads the answer. The status is nginx's."""

    status = 499


def wanted_of(
    metadata: Annotated[
        Literal["keep", "strip"], Query(description="EXIF and ICC profile in the answer")
    ] = "keep",
    quality: Annotated[int, Query(ge=1, le=100, description="Of JPEG, WebP and AVIF")] = 95,
    frames: Annotated[
        Literal["refuse", "first"], Query(description="What of pictures with several frames")
    ] = "refuse",
    accept: Annotated[str, Header(description="The answer's format")] = "*/*",
) -> Wanted:
    """How the answer shall be; a dependency of FastAPI."""
    return Wanted(format_of(accept), metadata == "keep", quality, frames == "first")


@asynccontextmanager
async def picture_of(request: Request, service: Service) -> AsyncIterator[bytes]:
    """The picture of the raw body or of the multipart field ``image``, never above the limit.

    It counts as held in memory for as long as the block lasts.

    Raises:
        PictureTooLargeError: it has more bytes than allowed.
        BusyError: too many bodies are held in memory.
        SilentClientError: it stopped coming.
        DeblurError: there is no picture in the request.
    """
    allowed = int(service.limits.megabytes * 2**20) + _FORM_BYTES
    async with body_of(request, service, allowed, "send a smaller file") as body:
        yield await _unwrapped(request, body)


@asynccontextmanager
async def body_of(
    request: Request, service: Service, allowed: int, advice: str, more: int = 0
) -> AsyncIterator[bytes]:
    """The body of at most ``allowed`` bytes; it and ``more`` count as held in memory for as long as
    the block lasts.

    Raises:
        PictureTooLargeError: it has more bytes than allowed; ends with ``advice``.
        BusyError: too many bodies are held in memory.
        SilentClientError: it stopped coming.
    """
    declared = request.headers.get("content-length", "")
    expected = int(declared) if declared.isascii() and declared.isdigit() else allowed
    too_large = PictureTooLargeError(
        f"the body is larger than the limit of {service.limits.megabytes:g} MiB: {advice}"
    )
    if expected > allowed:
        raise too_large
    with service.hold_body(expected + more):
        body = await _received(request, allowed)
        if body is None:
            raise too_large
        yield body


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What ``work`` returns; it is cancelled when the client closes the connection.

    Call it when the body has been read.

    Raises:
        ClientLeftError: the client did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError("the client closed the connection")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def format_of(accept: str) -> str | None:
    """The format of the answer by the ``Accept`` header (RFC 9110, section 12.5.1); ``None`` for
    any.

    Raises:
        NotAcceptableError: none of them can be written.
        DeblurError: a weight is not a number.
    """
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
            return None
        if media in by_media:
            return by_media[media]
    raise NotAcceptableError(
        f"cannot answer with '{accept}': ask for one of {', '.join(by_media)} or image/*"
    )


async def _received(request: Request, allowed: int) -> bytes | None:
    """The body, or ``None`` if it has more bytes than allowed."""
    body = bytearray()
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise SilentClientError(
                f"no byte of the body came within {_SILENCE:g} s after {len(body)}: send it again"
            ) from None
        if chunk is None:
            return bytes(body)
        body += chunk
        if len(body) > allowed:
            return None


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


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
