"""The classes of the protocol's messages.

They live in a pool of their own: other packages (``tritonclient``, ``kserve``) describe messages of
the same names, and protobuf's common pool takes one description of a name only.
"""

from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from deblur.serving.grpc.descriptor import FILE

_pool = DescriptorPool()
_pool.AddSerializedFile(FILE)

SERVICE = "inference.GRPCInferenceService"


def message(name: str) -> Any:
    """The class of ``inference.<name>``."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


def methods() -> list[tuple[str, Any, Any]]:
    """Name, request class and response class of each method of the service."""
    return [
        (method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in _pool.FindServiceByName(SERVICE).methods
    ]
