"""What the server measures of itself, for Prometheus. Each server has a registry of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from deblur.serving.engine import Engine
from deblur.serving.tracing import Tracing

#: Upper bounds in seconds. A tile takes from a few milliseconds to a second, a picture to minutes.
_TILE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STAGE = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_REQUEST = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Telemetry:
    """The metrics, which ``docs/serving.md`` lists, and the spans of ``tracing``."""

    def __init__(self, tracing: Tracing = Tracing()) -> None:
        self.tracing = tracing
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "deblur_requests", "Answered requests.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "deblur_request_seconds", "From the first byte of a request to the last of its answer.",
            ["route"], buckets=_REQUEST, registry=self.registry,
        )  # fmt: skip
        self.megapixels = Counter(
            "deblur_megapixels", "Megapixels that were deblurred.", registry=self.registry
        )
        self.stage_seconds = Histogram(
            "deblur_stage_seconds", "Time of a picture in a stage: wait, decode, tiles, encode.",
            ["stage"], buckets=_STAGE, registry=self.registry,
        )  # fmt: skip
        self.tile_seconds = Histogram(
            "deblur_tile_seconds", "Time that a tile is computed.", buckets=_TILE,
            registry=self.registry,
        )  # fmt: skip
        self.reloads = Counter(
            "deblur_reloads", "Changes of the model while serving: done or failed.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._model = Gauge(
            "deblur_model_info", "1 for the model that is served.",
            ["sha256", "version", "network", "provider", "precision", "tile", "overlap"],
            registry=self.registry,
        )  # fmt: skip

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for whenever the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def model(self, engine: Engine, version: str) -> None:
        """Name the model that is served from now on."""
        contract, setting = engine.contract, engine.setting
        self._model.clear()
        self._model.labels(
            sha256=engine.sha256,
            version=version,
            network=f"{contract.architecture} {contract.base_ch}",
            provider=setting.provider,
            precision=setting.precision,
            tile=str(setting.tile),
            overlap=str(setting.overlap),
        ).set(1)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block as a stage of a picture."""
        began = perf_counter()
        try:
            yield
        finally:
            self.stage_took(name, perf_counter() - began)

    def stage_took(self, name: str, seconds: float) -> None:
        """A stage of a picture ends now, after so many seconds."""
        self.stage_seconds.labels(name).observe(seconds)
        self.tracing.stage(name, seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
