"""Whether the pictures that come are still like those that the model's figures were measured on.

It takes no sharp pictures: what ``deblur.inputs`` measures of each one is counted, window by
window, and compared with the baseline that the model file carries.
"""

import base64
import json
import logging
import math
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from deblur.errors import ConfigError, ModelFileError
from deblur.inputs import QUANTITIES, Baseline, Measured, Usual, bin_of, measure, sharpness
from deblur.outbox import Outbox
from deblur.serving.engine import Engine

log = logging.getLogger(__name__)

#: What is told when inputs drift: plain values, ``docs/drift.md`` lists them.
Event = dict[str, Any]
EventForm = Literal["plain", "prefect"]

#: Above it shares have changed in a way that matters, by convention; some take 0.25.
THRESHOLD = 0.2
#: Windows in a row above the limit that make an event.
_IN_A_ROW = 2
#: Standard normal quantile of 99.9 %.
_SURE = 3.09

#: Events that wait for a webhook, and answers of one that are "later", not "no", besides 5xx.
_KEPT, _LATER = 100, (408, 429)

_BUCKETS: dict[str, tuple[float, ...]] = {
    "sharpness": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "blur_px": (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0),
    "noise": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    "megapixels": (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 50.0, 100.0),
    "brightness": (16.0, 32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 224.0),
}
_TEXTS = {
    "sharpness": "Laplacian variance over variance of the pictures that came.",
    "blur_px": "Extent of motion blur of the pictures that came, in pixels.",
    "noise": "Noise of the pictures that came, in levels.",
    "megapixels": "Size of the pictures that came.",
    "brightness": "Mean luminance of the pictures that came, 0 to 255.",
}


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """Population stability index of two counts over the same bins: from 0, for equal shares.

    ``sum((a - e) ln(a / e))`` over the bins' shares e and a: Siddiqi, "Credit Risk Scorecards",
    2006; both directions of the Kullback-Leibler divergence added up. Half a picture is added to
    each bin, so that empty ones have a share.

    Of two samples of one population it is not 0: over B bins, with N and M pictures, about
    ``(B - 1) (1 / N + 1 / M)``, see ``psi_by_chance``.
    """
    shares = []
    for counts in (expected, found):
        smoothed = np.asarray(counts, dtype=np.float64) + 0.5
        shares.append(smoothed / smoothed.sum())
    before, after = shares
    return float(((after - before) * np.log(after / before)).sum())


def psi_by_chance(bins: int, expected: int, found: int) -> float:
    """What PSI stays below in 99.9 % of windows that did not drift.

    PSI of two samples of one population is distributed as ``(1 / N + 1 / M)`` times chi squared of
    B - 1 degrees of freedom: Yurdakul, "Statistical properties of population stability index",
    dissertation, Western Michigan University, 2018. Its quantile is by Wilson and Hilferty's
    approximation, "The distribution of chi-square", PNAS 17, 1931.

    Args:
        bins: B, those that hold pictures of the baseline.
        expected, found: M and N, pictures in the baseline and in the window.
    """
    freedom = max(1, bins - 1)
    part = 2.0 / (9.0 * freedom)
    return freedom * (1 - part + _SURE * math.sqrt(part)) ** 3 * (1 / expected + 1 / found)


def baseline_of(engine: Engine) -> Baseline | None:
    """The baseline that a model file carries; ``None`` of one without, or, with a warning, of one
    that cannot be read."""
    values = engine.contract.baseline
    if values is None:
        return None
    try:
        return Baseline.from_json(values, f"model {engine.sha256[:12]}")
    except ModelFileError as error:
        log.warning("inputs are not compared with a baseline: %s", error)
        return None


class DriftWatch:
    """Counts what is measured of pictures, and compares each full window with the baseline.

    A quantity has drifted once its PSI is above its limit in two windows in a row. The limit is
    ``threshold``, or what chance makes of so few pictures, if that is more. There is one event for
    a drift: the next one of the quantity comes after a window below the limit. May be called from
    several threads.

    Args:
        baseline: of the model; ``None`` measures and counts, and compares nothing.
        model: SHA-256 of its file.
        window: pictures in a window.
        threshold: of PSI.
        registry: where its metrics go.
        on_drift: is given each event, in the thread of the picture that completed the window. It
            has to return at once; what it raises is logged.
    """

    def __init__(
        self,
        baseline: Baseline | None,
        model: str = "",
        *,
        window: int = 200,
        threshold: float = THRESHOLD,
        registry: CollectorRegistry | None = None,
        on_drift: Callable[[Event], None] | None = None,
    ) -> None:
        self._window, self._threshold = window, threshold
        self._on_drift = on_drift
        self._lock = threading.Lock()
        self._metrics = _Metrics(registry or CollectorRegistry())
        self.against(baseline, model)

    def against(self, baseline: Baseline | None, model: str) -> None:
        """Compare with another model's baseline from now on. The window begun is dropped."""
        with self._lock:
            self._model, self._baseline = model, baseline
            self._above = dict.fromkeys(QUANTITIES, 0)
            self._begin()
            self._metrics.forget()

    def compare(self, before: np.ndarray, after: np.ndarray) -> None:
        """Measure a picture and its result, ``[H, W, 3]`` uint8 both, and count them.

        It takes some 15 ms of CPU time, however large they are. Nothing is raised: a picture must
        not fail because it could not be measured.
        """
        try:
            self.seen(measure(before), sharpness(after))
        except Exception:
            log.exception("a picture could not be measured")

    def seen(self, before: Measured, after_sharpness: float) -> None:
        """Count one picture: what was measured of it, and the sharpness of its result."""
        events: list[Event] = []
        with self._lock:
            self._metrics.count(before)
            for quantity, value in asdict(before).items():
                self._values[quantity].append(value)
            if before.sharpness > 0 and after_sharpness > 0:
                self._gains.append(math.log(after_sharpness / before.sharpness))
            pictures = len(self._values[QUANTITIES[0]])
            if pictures == self._window:
                events = self._close()
                self._begin()
                pictures = 0
            self._metrics.pictures.set(pictures)
        for event in events:
            self._tell(event)

    def _begin(self) -> None:
        self._values: dict[str, list[float]] = {quantity: [] for quantity in QUANTITIES}
        self._gains: list[float] = []

    def _close(self) -> list[Event]:
        """The events of a full window."""
        if self._gains:
            self._metrics.gain.set(math.exp(math.fsum(self._gains) / len(self._gains)))
        if self._baseline is None:
            return []
        events = []
        for quantity, usual in self._baseline.usual.items():
            found = self._compared(quantity, usual)
            above = found["psi"] > found["limit"]
            self._above[quantity] = self._above[quantity] + 1 if above else 0
            if self._above[quantity] == _IN_A_ROW:
                events.append(found)
        return events

    def _compared(self, quantity: str, usual: Usual) -> Event:
        values = np.array(self._values[quantity])
        counts = np.bincount(bin_of(values, np.array(usual.edges)), minlength=len(usual.counts))
        found = psi(usual.counts, counts.tolist())
        bins = sum(count > 0 for count in usual.counts)
        chance = psi_by_chance(bins, sum(usual.counts), len(values))
        limit = max(self._threshold, chance)
        self._metrics.psi.labels(quantity).set(found)
        self._metrics.limit.labels(quantity).set(limit)
        return {
            "event": "deblur.input-drift",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self._model,
            "quantity": quantity,
            "psi": round(found, 4),
            "limit": round(limit, 4),
            "window": len(values),
            "median": float(f"{np.median(values):.6g}"),
            "usual_median": usual.median,
        }

    def _tell(self, event: Event) -> None:
        self._metrics.events.labels(event["quantity"]).inc()
        log.warning(
            "the pictures that come have changed: %s has PSI %.2f (limit %.2f) over %d pictures, "
            "its median is %g where %g was usual: the model's figures may not hold for them, see "
            "docs/drift.md",
            event["quantity"], event["psi"], event["limit"], event["window"], event["median"],
            event["usual_median"], extra={"fields": event},
        )  # fmt: skip
        if self._on_drift is None:
            return
        try:
            self._on_drift(event)
        except Exception:  # a picture must not fail because nobody could be told
            log.exception("the event of drift could not be handed on")


class Webhook:
    """Posts events as JSON to an address, from a thread of its own, so that nothing waits for it.

    Prefect takes lists of events in a form of its own; that of an event is made when it happens, so
    that one that is posted twice is counted once.

    While the address cannot be reached, or answers 5xx, 408 or 429, it is tried again every few
    seconds, see ``deblur.outbox``; the last hundred events are kept. Another refusal is logged, and
    its event is dropped. The address may hold a secret, so it is not logged.

    Args:
        url: ``http://`` or ``https://``; of Prefect, its API's address with ``/events``.
        form: ``plain``, or ``prefect`` for a server of Prefect's.
        authorisation: ``user:password`` for basic authentication.
        timeout: of one attempt, in seconds.

    Raises:
        ConfigError: another kind of address.
    """

    def __init__(
        self,
        url: str,
        form: EventForm = "plain",
        authorisation: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                "the webhook's address does not begin with http:// or https://: give the address "
                "that events of drift are to be posted to"
            )
        self._url, self._form, self._timeout = url, form, timeout
        self._headers = {"Content-Type": "application/json"}
        if authorisation:
            encoded = base64.b64encode(authorisation.encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
        self._outbox = Outbox("events of drift", "the webhook", self._post, limit=_KEPT)

    def __call__(self, event: Event) -> None:
        """Have the event posted; returns at once."""
        self._outbox.put([event if self._form == "plain" else for_prefect(event)])

    def close(self, timeout: float = 5.0) -> None:
        """Wait up to ``timeout`` seconds for what is not posted yet, then give it up."""
        self._outbox.close(timeout)

    def _post(self, events: list[Event]) -> None:
        for event in events:
            body = json.dumps(event if self._form == "plain" else [event]).encode()
            try:
                with urlopen(Request(self._url, body, self._headers), timeout=self._timeout):
                    pass
            except HTTPError as error:
                error.close()
                if error.code >= 500 or error.code in _LATER:
                    raise
                log.error("the webhook refused an event of drift with %d: dropped", error.code)


def for_prefect(event: Event) -> Event:
    """The same event as Prefect's API takes it, with an id of its own."""
    return {
        "id": str(uuid.uuid4()),
        "occurred": event["time"],
        "event": event["event"],
        "resource": {"prefect.resource.id": f"deblur.model.{event['model'][:12]}"},
        "payload": event,
    }


class _Metrics:
    """Of the inputs; ``docs/drift.md`` lists them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._inputs = {
            quantity: Histogram(
                f"deblur_input_{quantity}", _TEXTS[quantity], buckets=_BUCKETS[quantity],
                registry=registry,
            )
            for quantity in QUANTITIES
        }  # fmt: skip
        self.psi = Gauge(
            "deblur_input_psi", "Of the last full window against the model's baseline.",
            ["quantity"], registry=registry,
        )  # fmt: skip
        self.limit = Gauge(
            "deblur_input_psi_limit", "PSI from which on a quantity counts as changed.",
            ["quantity"], registry=registry,
        )  # fmt: skip
        self.pictures = Gauge(
            "deblur_input_window_pictures", "Pictures in the window begun.", registry=registry
        )
        self.gain = Gauge(
            "deblur_sharpness_gain",
            "Sharpness of results over that of their pictures, geometric mean of the last window.",
            registry=registry,
        )
        self.events = Counter(
            "deblur_drift_events", "Drifts of the inputs.", ["quantity"], registry=registry
        )

    def count(self, measured: Measured) -> None:
        for quantity, value in asdict(measured).items():
            self._inputs[quantity].observe(value)

    def forget(self) -> None:
        """What was found of another model's windows."""
        self.psi.clear()
        self.limit.clear()
        self.pictures.set(0)
        self.gain.set(math.nan)
