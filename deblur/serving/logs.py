"""One line for each request, with an id that the client sees, too; as text or as JSON."""

import json
import logging
import re
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deblur.serving.telemetry import Telemetry

log = logging.getLogger(__name__)

#: Ids that are taken over from the client; others could fake lines of the log.
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")

#: Not logged: what probes and scrapers ask for every few seconds.
_QUIET = frozenset({"/healthz", "/readyz", "/startupz", "/metrics"})


class RequestLog:
    """ASGI middleware: gives each request an id (``X-Request-ID``), counts it and logs it."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app, self.telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _id_of(scope)
        token = _request_id.set(request_id)
        status, size = 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []), (b"x-request-id", request_id.encode())
                ]  # fmt: skip
            else:
                size += len(message.get("body", b""))
            await send(message)

        with self.telemetry.tracing.request(scope["method"], _headers_of(scope)) as answered:
            try:
                await self.app(scope, receive, sending)
            finally:
                route = _route_of(scope)
                answered(route, status)
                self._count(scope, route, status, size, time.perf_counter() - began)
                _request_id.reset(token)

    def _count(self, scope: Scope, route: str, status: int, size: int, seconds: float) -> None:
        method = scope["method"] if route != "other" else "other"
        self.telemetry.requests.labels(method, route, str(status)).inc()
        self.telemetry.request_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
        log.log(
            level, "%s %s %d in %.3f s", scope["method"], scope["path"], status, seconds,
            extra={"fields": {
                "method": scope["method"], "path": scope["path"], "status": status,
                "seconds": round(seconds, 4), "bytes": size,
            }},
        )  # fmt: skip


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: time, level, logger, message, request id, fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _id_of(scope: Scope) -> str:
    given = _headers_of(scope).get("x-request-id", "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def _headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _route_of(scope: Scope) -> str:
    """The pattern of the route: with the path itself every id of a job would be a metric."""
    return getattr(scope.get("route"), "path", "other")
