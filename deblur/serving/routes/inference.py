"""``/v2``: the Open Inference Protocol, so that its clients work (KServe's, ``tritonclient``)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.routing import APIRoute

import deblur
from deblur.contract import INPUT, OUTPUT
from deblur.errors import DeblurError
from deblur.serving.inference.codec import Inference, compose_answer, parse_request
from deblur.serving.inference.compression import accepted_coding, compress, decompress
from deblur.serving.inference.messages import (
    InferenceProblem,
    InferRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from deblur.serving.inference.tensors import (
    DATATYPE,
    EXTENSIONS,
    PLATFORM,
    SERVER,
    SHAPE,
    check_model,
    check_ready,
    restore,
    version_of,
)
from deblur.serving.routes.requests import body_of, problem_answer, problems, unless_left
from deblur.serving.service import Service

Answers = dict[int | str, dict[str, Any]]
ModelName = Annotated[str, Path(examples=["deblur"])]
ModelVersion = Annotated[str, Path(examples=["1"])]

_LENGTH = "Inference-Header-Content-Length"
_LENGTH_TEXT = "Bytes of the JSON, where the values of tensors follow it"
_BINARY = {
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
        "example": "the JSON object, and after it the values of its tensors",
    }
}


class _Route(APIRoute):
    """Answers errors in the protocol's own form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except DeblurError as error:
                return problem_answer(error, "error")

        return answer


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without references, which would point out of the OpenAPI description."""
    definitions = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return inline(definitions[value["$ref"].rpartition("/")[2]])
        return {key: inline(item) for key, item in value.items()}

    return inline(schema)


def _problems(**texts: str) -> Answers:
    described = problems(**texts)
    return {status: {**told, "model": InferenceProblem} for status, told in described.items()}


_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined(InferRequest.model_json_schema())},
            **_BINARY,
        },
    }
}
_ANSWERS: Answers = {
    200: {
        "description": "The deblurred pictures, of the same shape",
        "model": InferResponse,
        "content": _BINARY,
        "headers": {_LENGTH: {"description": _LENGTH_TEXT, "schema": {"type": "integer"}}},
    },
    **_problems(
        _400="Malformed, or not what the model takes",
        _401="The server wants an API key",
        _408="The body stopped coming",
        _413="More bytes or pixels than allowed",
        _429="More work is waiting than is taken on",
        _503="The server is being stopped",
        _504="Not ready by the timeout",
    ),
}
_UNKNOWN = _problems(_401="The server wants an API key", _404="No such model or version")
_STOPPING = _problems(_503="The server is being stopped")


def inference_routes(service: Service, name: str = "deblur") -> APIRouter:
    """``/v2/...`` for one model called ``name``."""
    routes = APIRouter(prefix="/v2", tags=["inference"], route_class=_Route)

    @routes.get("", summary="What the server is")
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(name=SERVER, version=deblur.__version__, extensions=EXTENSIONS)

    @routes.get("/health/live", summary="The server is alive")
    async def server_live() -> Live:
        return Live()

    @routes.get(
        "/health/ready",
        summary="The server takes on pictures",
        responses=_STOPPING,
    )
    async def server_ready() -> Ready:
        check_ready(service)
        return Ready()

    async def named(model: ModelName) -> None:
        check_model(service, name, model)

    async def versioned(model: ModelName, version: ModelVersion) -> None:
        check_model(service, name, model, version)

    for path, known in (
        ("/models/{model}", named),
        ("/models/{model}/versions/{version}", versioned),
    ):
        _model_routes(routes, service, name, path, known)
    return routes


def _model_routes(
    routes: APIRouter,
    service: Service,
    name: str,
    path: str,
    known: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    @routes.get(
        path,
        summary="What the model takes and gives",
        dependencies=[Depends(known)],
        responses=_UNKNOWN,
    )
    async def model_metadata() -> ModelMetadata:
        return ModelMetadata(
            name=name,
            versions=[version_of(service)],
            platform=PLATFORM,
            inputs=[TensorMetadata(name=INPUT, datatype=DATATYPE, shape=SHAPE)],
            outputs=[TensorMetadata(name=OUTPUT, datatype=DATATYPE, shape=SHAPE)],
        )

    @routes.get(
        f"{path}/ready",
        summary="The model takes on pictures",
        dependencies=[Depends(known)],
        responses={**_UNKNOWN, **_STOPPING},
    )
    async def model_ready() -> ModelReady:
        check_ready(service)
        return ModelReady(name=name)

    @routes.post(
        f"{path}/infer",
        summary="Deblur a batch of pictures",
        dependencies=[Depends(known)],
        openapi_extra=_REQUEST,
        responses={**_ANSWERS, **_UNKNOWN},
    )
    async def infer(
        request: Request,
        header_length: Annotated[
            str | None, Header(alias=_LENGTH, description=_LENGTH_TEXT)
        ] = None,
        content_encoding: Annotated[str, Header(description="gzip or deflate")] = "",
        accept_encoding: Annotated[str, Header(description="gzip or deflate")] = "",
    ) -> Response:
        """One input, `blurred`, and one output, `restored`: UINT8 `[batch, height, width, 3]`.

        Their values are in the JSON, or follow it (Triton's binary tensor data extension).
        """
        coding = accepted_coding(accept_encoding)
        most = int(service.limits.megabytes * 2**20)

        def read(body: bytes) -> Inference:
            plain = decompress(body, content_encoding, most)
            return parse_request(plain, header_length, service.limits)

        def write(inference: Inference, restored: list[Any]) -> tuple[bytes, int | None]:
            content, length = compose_answer(inference, restored, name, version_of(service))
            return compress(content, coding) if coding else content, length

        async def answer(body: bytes) -> tuple[bytes, int | None]:
            inference = await asyncio.to_thread(read, body)
            restored = await restore(service, inference.batch, inference.deadline)
            return await asyncio.to_thread(write, inference, restored)

        held = most if content_encoding else 0
        advice = "send fewer or smaller pictures"
        async with body_of(request, service, most, advice, held) as body:
            content, length = await unless_left(request, answer(body))
        headers = {"Content-Encoding": coding} if coding else {}
        if length is None:
            return Response(content, media_type="application/json", headers=headers)
        headers[_LENGTH] = str(length)
        return Response(content, media_type="application/octet-stream", headers=headers)
