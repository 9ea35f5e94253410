"""The methods of the protocol, on grpcio's asynchronous server."""

import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np

import deblur
from deblur.contract import INPUT, OUTPUT
from deblur.errors import DeblurError, SetupError
from deblur.images import Limits
from deblur.serving.grpc.messages import SERVICE, message, methods
from deblur.serving.inference.tensors import (
    DATATYPE,
    EXTENSIONS,
    PLATFORM,
    SERVER,
    SHAPE,
    InferenceRequestError,
    check_input,
    check_model,
    check_output,
    check_ready,
    from_values,
    restore,
    seconds_of,
    version_of,
)
from deblur.serving.keys import Key, Keys, calling
from deblur.serving.service import DrainingError, Service

Method = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]

#: Calls at once, above which they are refused before a message is read.
_CALLS = 64

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class MissingKeyError(DeblurError):
    """A call without a key that is known."""

    status = 401


async def start(
    service: Service, host: str, port: int, name: str, keys: Keys | None
) -> tuple[grpc.aio.Server, int]:
    """See ``deblur.serving.grpc.start_grpc``."""
    most = min(int(service.limits.megabytes * 2**20), 2**31 - 1)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=_CALLS,
        options=[
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second server would take half of the calls
        ],
    )
    answers = _Methods(service, name, keys)
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            _readable(getattr(answers, method)), request.FromString, response.SerializeToString
        )
        for method, request, response in methods()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise SetupError(
            f"cannot listen on {address} ({error}): stop what uses the port, or choose another "
            "with --grpc-port"
        ) from None
    await server.start()
    return server, bound


class _Methods:
    """Each method is called as the protocol calls it."""

    def __init__(self, service: Service, name: str, keys: Keys | None) -> None:
        self._service, self._name, self._keys = service, name, keys

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return message("ServerLiveResponse")(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return message("ServerReadyResponse")(ready=self._ready())

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._caller(context)
        check_model(self._service, self._name, request.name, request.version)
        return message("ModelReadyResponse")(ready=self._ready())

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return message("ServerMetadataResponse")(
            name=SERVER, version=deblur.__version__, extensions=EXTENSIONS
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._caller(context)
        check_model(self._service, self._name, request.name, request.version)
        return message("ModelMetadataResponse")(
            name=self._name,
            versions=[version_of(self._service)],
            platform=PLATFORM,
            inputs=[{"name": INPUT, "datatype": DATATYPE, "shape": SHAPE}],
            outputs=[{"name": OUTPUT, "datatype": DATATYPE, "shape": SHAPE}],
        )

    async def ModelInfer(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Any:
        caller = self._caller(context)
        check_model(self._service, self._name, request.model_name, request.model_version)
        with calling(caller), self._service.hold_body(request.ByteSize()):
            batch = _batch_of(request, self._service.limits)
            deadline = _deadline_of(request, context)
            restored = await restore(self._service, batch, deadline)
        return message("ModelInferResponse")(
            model_name=self._name,
            model_version=version_of(self._service),
            id=request.id,
            parameters=request.parameters,
            outputs=[{"name": OUTPUT, "datatype": DATATYPE, "shape": batch.shape}],
            raw_output_contents=[b"".join(np.ascontiguousarray(p).data for p in restored)],
        )

    def _caller(self, context: grpc.aio.ServicerContext) -> Key | None:
        """Whose key came with the call, ``None`` where none are needed.

        Raises:
            MissingKeyError: none that is known.
        """
        if self._keys is None:
            return None
        given = dict(context.invocation_metadata() or ())
        scheme, _, bearer = str(given.get("authorization", "")).partition(" ")
        key = bearer if scheme.lower() == "bearer" else str(given.get("x-api-key", ""))
        caller = self._keys.holder(key.strip())
        if caller is None:
            raise MissingKeyError(
                "this server wants an API key: send the metadata  authorization: Bearer KEY"
            )
        return caller

    def _ready(self) -> bool:
        try:
            check_ready(self._service)
        except DrainingError:
            return False
        return True


def _readable(method: Method) -> Method:
    """The method, whose errors become a status that the client can read."""

    @functools.wraps(method)
    async def answered(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(request, context)
        except DeblurError as error:
            after = getattr(error, "retry_after", None)
            if after is not None:
                context.set_trailing_metadata((("retry-after", str(after)),))
            await context.abort(_CODES.get(error.status, grpc.StatusCode.UNKNOWN), str(error))

    return answered


def _batch_of(request: Any, limits: Limits) -> np.ndarray:
    """``[N, H, W, 3]`` uint8 of a request.

    Raises:
        InferenceRequestError: it is not what the model takes.
        PictureTooLargeError: more pixels than the limit allows.
    """
    if len(request.inputs) != 1:
        raise InferenceRequestError(
            f"the request has {len(request.inputs)} inputs: send one, '{INPUT}'"
        )
    if len(request.outputs) > 1:
        raise InferenceRequestError(
            f"{len(request.outputs)} outputs are asked for: the model has one, '{OUTPUT}'"
        )
    for output in request.outputs:
        check_output(output.name, output.parameters)
    tensor, raw = request.inputs[0], request.raw_input_contents
    shape = check_input(tensor.name, tensor.datatype, tensor.shape, limits)
    if len(raw) > 1 or (raw and tensor.HasField("contents")):
        raise InferenceRequestError(
            f"the values of '{INPUT}' are given more than once: send them in raw_input_contents or "
            "in contents"
        )
    return from_values(raw[0] if raw else _values(tensor), shape)


def _values(tensor: Any) -> bytes:
    values = tensor.contents.uint_contents
    try:
        return bytes(values)
    except ValueError:
        raise InferenceRequestError(
            f"the values of '{INPUT}' are not all from 0 to 255: send {DATATYPE} values"
        ) from None


def _deadline_of(request: Any, context: grpc.aio.ServicerContext) -> float | None:
    """Seconds that are left, by the call's deadline and the parameter ``timeout``."""
    timeout = request.parameters.get("timeout")
    value = None
    if timeout is not None:
        choice = timeout.WhichOneof("parameter_choice")
        value = getattr(timeout, choice) if choice else ""
    left = min(seconds_of(value) or math.inf, context.time_remaining() or math.inf)
    return None if left == math.inf else left
