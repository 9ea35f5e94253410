"""What operating the server takes: probes and metrics."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deblur.images import FORMATS
from deblur.serving.routes.requests import problems
from deblur.serving.service import DrainingError, Service


def operation_routes(service: Service) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/startupz`` and ``/metrics``."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/startupz", summary="The model is loaded and warm")
    async def startupz() -> dict[str, str]:
        return {"status": "started"}  # the port is not served before it is

    @routes.get(
        "/readyz",
        summary="New pictures are taken on, by which model and in which setting",
        responses=problems(_503="The server is being stopped"),
    )
    async def readyz() -> dict[str, Any]:
        if service.draining:
            raise DrainingError("the server is being stopped")
        contract, setting = service.engine.contract, service.engine.setting
        return {
            "status": "ready",
            "model": {
                "sha256": service.engine.sha256,
                "version": service.version,
                "architecture": contract.architecture,
                "base_ch": contract.base_ch,
                "provider": setting.provider,
                "precision": setting.precision,
                "tile": setting.tile,
                "overlap": setting.overlap,
                "metrics": dict(contract.metrics),
                "measured_on": f"{contract.data_kind} {contract.subset}",
            },
            "limits": {
                "megabytes": service.limits.megabytes,
                "megapixels": service.limits.megapixels,
                "formats": list(FORMATS),
            },
        }

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.telemetry.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
