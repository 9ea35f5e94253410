"""The Open Inference Protocol over gRPC, beside HTTP: ``pip install 'deblur[grpc]'``."""

from typing import TYPE_CHECKING

from deblur.errors import SetupError
from deblur.serving.keys import Keys
from deblur.serving.service import Service

if TYPE_CHECKING:
    import grpc.aio


async def start_grpc(
    service: Service,
    host: str,
    port: int,
    name: str = "deblur",
    keys: Keys | None = None,
) -> "tuple[grpc.aio.Server, int]":
    """Serve ``service`` over gRPC in the running event loop, without encryption.

    Args:
        service: what deblurs.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        name: what clients call the model.
        keys: who may call, by the metadata ``authorization: Bearer KEY`` or ``x-api-key``; by
            default everybody.

    Returns:
        The server, which ``await server.stop(seconds)`` ends, and its port.

    Raises:
        SetupError: the packages are not installed, or the port is taken.
    """
    try:
        from deblur.serving.grpc.server import start
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("grpc", "google"):
            raise
        raise SetupError(
            f"gRPC needs a package that is not installed ({error.name}): "
            "pip install 'deblur[grpc]', or serve without --grpc-port"
        ) from None
    return await start(service, host, port, name, keys)
