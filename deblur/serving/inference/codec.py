"""Bodies of ``infer`` over HTTP: JSON, or JSON followed by the values of its tensors.

The second is Triton's binary tensor data extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
"""

import json
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pydantic import ValidationError

from deblur.contract import INPUT, OUTPUT
from deblur.errors import PictureTooLargeError
from deblur.images import Limits
from deblur.serving.inference.messages import InferRequest, InputTensor, Parameters
from deblur.serving.inference.tensors import (
    DATATYPE,
    InferenceRequestError,
    check_input,
    check_output,
    from_values,
    seconds_of,
)

#: Read into Python's objects, JSON takes up to twenty times its size.
JSON_MEGABYTES = 16

#: ``0,`` to ``255,``, filled up with zeros.
_DECIMALS = np.array([f"{value}," for value in range(256)], dtype="S4")


@dataclass(frozen=True)
class Inference:
    """A request that can be met.

    Attributes:
        batch: ``[N, H, W, 3]`` uint8; of binary data it is a view of the body.
        id: what the answer repeats, or ``None``.
        parameters: what the answer repeats.
        binary: whether the answer's values follow its JSON.
        deadline: seconds that it may take, or ``None``.
    """

    batch: np.ndarray
    id: str | None
    parameters: Parameters
    binary: bool
    deadline: float | None


def parse_request(body: bytes, header_length: str | None, limits: Limits) -> Inference:
    """Read the body of a request.

    Args:
        body: as it came, without its compression.
        header_length: the header ``Inference-Header-Content-Length``: bytes of the JSON, with which
            the body begins. ``None`` where all of it is JSON.
        limits: what is accepted.

    Raises:
        InferenceRequestError: it is malformed, or asks for what the model does not have.
        PictureTooLargeError: more pixels, or more JSON, than allowed.
    """
    view = memoryview(body)
    length = len(view) if header_length is None else _length(header_length, len(view))
    if length > JSON_MEGABYTES * 2**20:
        raise PictureTooLargeError(
            f"the JSON has {length / 2**20:.1f} MiB, the limit is {JSON_MEGABYTES}: send the "
            "tensor as binary data"
        )
    try:
        request = InferRequest.model_validate_json(bytes(view[:length]))
    except ValidationError as error:
        raise InferenceRequestError(_readable(error)) from None
    if len(request.inputs) != 1:
        raise InferenceRequestError(
            f"the request has {len(request.inputs)} inputs: send one, '{INPUT}'"
        )
    tensor = request.inputs[0]
    shape = check_input(tensor.name, tensor.datatype, tensor.shape, limits)
    values = _values(tensor, shape, view[length:])
    return Inference(
        from_values(values, shape),
        request.id,
        request.parameters,
        _wants_binary(request),
        seconds_of(request.parameters.get("timeout")),
    )


def compose_answer(
    inference: Inference, restored: list[np.ndarray], model: str, version: str
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON where values follow.

    Args:
        inference: what is answered.
        restored: N pictures ``[H, W, 3]`` uint8.
        model, version: what computed them.
    """
    output: dict[str, Any] = {
        "name": OUTPUT,
        "datatype": DATATYPE,
        "shape": [len(restored), *restored[0].shape],
    }
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if inference.id is not None:
        head["id"] = inference.id
    if inference.parameters:
        head["parameters"] = inference.parameters
    head["outputs"] = [output]
    if inference.binary:
        output["parameters"] = {"binary_data_size": sum(pixels.nbytes for pixels in restored)}
        text = _json(head)
        blobs = [np.ascontiguousarray(pixels).data for pixels in restored]
        return b"".join([text, *blobs]), len(text)
    output["data"] = []
    text, end = _json(head), b"]}]}"
    values = b"".join(_decimals(pixels) for pixels in restored)
    return b"".join([text.removesuffix(end), values.removesuffix(b","), end]), None


def _length(header_length: str, most: int) -> int:
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        raise InferenceRequestError(
            f"Inference-Header-Content-Length is '{header_length[:80]}': send the number of bytes "
            "of the JSON"
        )
    length = int(header_length)
    if length > most:
        raise InferenceRequestError(
            f"Inference-Header-Content-Length is {length}, the body has {most} bytes: send the "
            "number of bytes of the JSON, and all of the body"
        )
    if length == 0:
        raise InferenceRequestError(
            "Inference-Header-Content-Length is 0, but the shape of pictures cannot be told from "
            "their bytes: send the JSON before them"
        )
    return length


def _values(
    tensor: InputTensor, shape: tuple[int, int, int, int], blob: memoryview
) -> bytes | memoryview:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if len(blob):
            raise InferenceRequestError(
                f"{len(blob)} bytes follow the JSON, but the input '{INPUT}' has no "
                "'binary_data_size': add this parameter"
            )
        if tensor.data is None:
            raise InferenceRequestError(
                f"the input '{INPUT}' has neither 'data' nor the parameter 'binary_data_size': "
                "send its values in one of the two ways"
            )
        return _from_json(tensor.data, shape)
    if tensor.data is not None:
        raise InferenceRequestError(
            f"the input '{INPUT}' has both 'data' and 'binary_data_size': send one of them"
        )
    if type(size) is not int or size != len(blob):
        raise InferenceRequestError(
            f"the input '{INPUT}' has a 'binary_data_size' of {str(size)[:80]}, but {len(blob)} "
            "bytes follow the JSON: send as many as are announced"
        )
    return blob


def _from_json(data: list[Any], shape: tuple[int, int, int, int]) -> bytes:
    values = data
    if data and isinstance(data[0], list):
        values = [data]
        for size in shape:
            if any(not isinstance(item, list) or len(item) != size for item in values):
                raise InferenceRequestError(
                    f"the data of '{INPUT}' are not nested as their shape {list(shape)}: send them "
                    "so, or flat"
                )
            values = list(chain.from_iterable(values))
    try:
        if set(map(type, values)) <= {int}:  # bytes() would take booleans too
            return bytes(values)
    except ValueError:
        pass
    raise InferenceRequestError(
        f"the data of '{INPUT}' are not all whole numbers from 0 to 255: send {DATATYPE} values"
    )


def _wants_binary(request: InferRequest) -> bool:
    wanted = _switch(request.parameters, "binary_data_output", False)
    if len(request.outputs) > 1:
        raise InferenceRequestError(
            f"{len(request.outputs)} outputs are asked for: the model has one, '{OUTPUT}'"
        )
    for output in request.outputs:
        check_output(output.name, output.parameters)
        wanted = _switch(output.parameters, "binary_data", wanted)
    return wanted


def _switch(parameters: Parameters, key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InferenceRequestError(
            f"the parameter '{key}' is {str(value)[:80]!r}: send true or false"
        )
    return value


def _json(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":"), allow_nan=False).encode()


def _decimals(pixels: np.ndarray) -> bytes:
    # Vectorised: Python's own numbers would take tens of bytes each.
    return _DECIMALS[pixels.ravel()].tobytes().translate(None, b"\0")


def _readable(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:80]
    where = f" at '{place}'" if place else ""
    return (
        f"the request is not as expected{where} ({first['msg'][:200]}): send a JSON object as "
        "/docs describes it"
    )
