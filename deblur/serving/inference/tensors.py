"""The model's one input and one output: what both transports of the protocol have in common."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deblur.contract import INPUT, OUTPUT
from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import Limits
from deblur.serving.service import DrainingError, Service

SERVER = "deblur"
EXTENSIONS = ["binary_tensor_data"]
DATATYPE = "UINT8"
#: The protocol's name of an ONNX file as it is.
PLATFORM = "onnx_onnxv1"
#: Batch, height, width, RGB; -1 is any.
SHAPE = [-1, -1, -1, 3]

#: Parameters of an output that ask for something else than its values.
_UNSUPPORTED = ("classification", "shared_memory_region")


class InferenceRequestError(DeblurError):
    """A request of the protocol is malformed, or asks for what the model does not have."""


class UnknownModelError(DeblurError):
    """No model of this name and version is served here."""

    status = 404


def version_of(service: Service) -> str:
    """The version of the model that is served: its number in the registry, else 1."""
    return service.version or "1"


def check_model(service: Service, name: str, asked: str, version: str = "") -> None:
    """See that the model asked for is ``name``, and its version, if any, the one served.

    Raises:
        UnknownModelError: it is another.
    """
    if asked != name:
        raise UnknownModelError(f"there is no model '{asked}' here: ask for '{name}'")
    served = version_of(service)
    if version not in ("", served):
        raise UnknownModelError(
            f"there is no version '{version}' of the model '{name}' here: ask for '{served}', or "
            "leave the version away"
        )


def check_ready(service: Service) -> None:
    """See that new pictures are taken on.

    Raises:
        DrainingError: the server ends.
    """
    if service.draining:
        raise DrainingError("the server is being stopped: ask again in a moment")


def check_input(
    name: str, datatype: str, shape: Sequence[int], limits: Limits
) -> tuple[int, int, int, int]:
    """The shape ``(N, H, W, 3)`` of the input, from its description alone.

    Raises:
        InferenceRequestError: not the model's input, or a shape that pictures do not have.
        PictureTooLargeError: more pixels, over the whole batch, than the limit allows.
    """
    if name != INPUT:
        raise InferenceRequestError(
            f"the model has no input '{_short(name)}': send one input, '{INPUT}'"
        )
    if datatype != DATATYPE:
        raise InferenceRequestError(
            f"the input '{INPUT}' has the datatype '{_short(datatype)}': send {DATATYPE}, 0 to 255"
        )
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise InferenceRequestError(
            f"the input '{INPUT}' has the shape {_short(str(list(shape)))}: send "
            "[batch, height, width, 3], each at least 1"
        )
    count, height, width, channels = shape
    megapixels = count * height * width / 1e6
    if megapixels > limits.megapixels:
        raise PictureTooLargeError(
            f"the input '{INPUT}' has {_short(f'{count}x{height}x{width}')} = {megapixels:.4g} "
            f"megapixels, the limit is {limits.megapixels:g}: send fewer or smaller pictures, or "
            "raise the limit"
        )
    return count, height, width, channels


def check_output(name: str, parameters: Mapping[str, object]) -> None:
    """See that a requested output is the model's, and asked for as it can be given.

    Raises:
        InferenceRequestError: it is not.
    """
    if name != OUTPUT:
        raise InferenceRequestError(
            f"the model has no output '{_short(name)}': ask for '{OUTPUT}', or for none by name"
        )
    for key in _UNSUPPORTED:
        if key in parameters:
            raise InferenceRequestError(
                f"the output '{OUTPUT}' is asked for with '{key}', which is not supported: leave "
                "the parameter away"
            )


def from_values(values: bytes | memoryview, shape: tuple[int, int, int, int]) -> np.ndarray:
    """``[N, H, W, 3]`` uint8 over ``values``, without a copy.

    Raises:
        InferenceRequestError: there are more or fewer values than the shape has.
    """
    expected = math.prod(shape)
    if len(values) != expected:
        raise InferenceRequestError(
            f"the input '{INPUT}' has {len(values)} bytes of data, its shape {list(shape)} has "
            f"{expected}: send one byte a value, in row-major order"
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def seconds_of(timeout: Any) -> float | None:
    """The parameter ``timeout`` of a request, in microseconds, as seconds; 0 is none.

    Raises:
        InferenceRequestError: not a whole number from 0 up.
    """
    if timeout is None:
        return None
    if type(timeout) is not int or not 0 <= timeout < 2**63:
        raise InferenceRequestError(
            f"the parameter 'timeout' is {_short(repr(timeout))}: send microseconds, a whole "
            "number from 0 up, or leave it away"
        )
    return timeout / 1e6 or None


async def restore(service: Service, batch: np.ndarray, deadline: float | None) -> list[np.ndarray]:
    """Deblur ``[N, H, W, 3]`` uint8 picture by picture.

    Args:
        service: what deblurs them.
        batch: the pictures; must stay as they are meanwhile.
        deadline: seconds from now for all of them.

    Returns:
        N pictures ``[H, W, 3]`` uint8.

    Raises:
        BusyError, DrainingError, DeadlineError: as ``Service.deblur_pixels``.
    """
    end = None if deadline is None else time.monotonic() + deadline
    restored = []
    for pixels in batch:
        left = None if end is None else end - time.monotonic()
        restored.append(await service.deblur_pixels(pixels, deadline=left))
    return restored


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[:most] + "..."
