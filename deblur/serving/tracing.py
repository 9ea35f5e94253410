"""Spans for OpenTelemetry: one for a request, below it one for each stage of its picture.

Sent where the environment names a collector, in OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME`` and the rest).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import deblur
from deblur.errors import SetupError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: Told the route and the status once they are known.
Answered = Callable[[str, int], None]


class Tracing:
    """Makes no spans: where no collector is named."""

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Answered]:
        """A request for as long as the block lasts, below the caller's span if it sends one."""
        yield lambda route, status: None

    def stage(self, name: str, seconds: float) -> None:
        """A stage of the current request's picture, which ends now."""

    def close(self) -> None:
        """Send what is not sent yet."""


class OpenTelemetry(Tracing):
    """Sends spans to a collector, in a thread of its own.

    Raises:
        SetupError: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise SetupError(
                f"the environment names a collector, but OpenTelemetry is not installed ({error}): "
                "pip install 'deblur[otel]', or take the variable away"
            ) from None
        # What the environment says of the resource wins.
        about = {"service.name": "deblur", "service.version": deblur.__version__}
        self._provider = TracerProvider(resource=Resource(about).merge(Resource.create()))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("deblur.serving", deblur.__version__)
        self._propagator, self._server = TraceContextTextMapPropagator(), SpanKind.SERVER

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Answered]:
        above = self._propagator.extract(headers)
        with self._tracer.start_as_current_span(method, above, self._server) as span:

            def answered(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)

            yield answered

    def stage(self, name: str, seconds: float) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(name, start_time=end - int(seconds * 1e9))
        span.end(end)

    def close(self) -> None:
        self._provider.shutdown()


def tracing_of(environment: Mapping[str, str]) -> Tracing:
    """What the environment asks for.

    Raises:
        SetupError: it names a collector, but OpenTelemetry is not installed.
    """
    wanted = any(environment.get(name) for name in _ENDPOINTS)
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return OpenTelemetry() if wanted and not off else Tracing()
