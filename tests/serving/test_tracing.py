"""Spans that reach a collector, over OpenTelemetry's own protocol."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.telemetry import Telemetry
from deblur.serving.tracing import OpenTelemetry, Tracing, tracing_of
from tests.serving.conftest import encoded

CALLER = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The spans that came."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = ExportTraceServiceRequest()
            message.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield spans
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_with_its_stages_below_the_callers(
    engine: Engine, photograph: np.ndarray, collector: list[Any]
) -> None:
    tracing = OpenTelemetry()
    with TestClient(create_app(engine, telemetry=Telemetry(tracing))) as client:
        client.post(
            "/v1/deblur", content=encoded(photograph),
            headers={"traceparent": f"00-{CALLER}-b7ad6b7169203331-01"},
        )  # fmt: skip
        client.post("/v1/deblur", content=b"no picture")
    tracing.close()
    good, bad = (span for span in collector if span.name == "POST /v1/deblur")
    assert good.trace_id.hex() == CALLER and good.parent_span_id.hex() == "b7ad6b7169203331"
    statuses = [
        next(a.value.int_value for a in span.attributes if a.key == "http.response.status_code")
        for span in (good, bad)
    ]
    assert statuses == [200, 415]
    stages = [span for span in collector if span.parent_span_id == good.span_id]
    assert [span.name for span in stages] == ["wait", "decode", "tiles", "encode"]
    assert all(
        good.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano
        for s in stages[1:]
    )


def test_without_a_collector_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(tracing_of({})) is Tracing
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert type(tracing_of({**named, "OTEL_SDK_DISABLED": "true"})) is Tracing
