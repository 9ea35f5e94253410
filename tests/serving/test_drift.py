"""Drift is told when pictures have changed, once, and not by chance."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deblur import outbox
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import PHOTOGRAPHS
from deblur.errors import ConfigError
from deblur.inputs import QUANTITIES, Baseline, Measured, measure
from deblur.serving.drift import DriftWatch, Event, Webhook, baseline_of, psi, psi_by_chance
from deblur.serving.engine import Engine

PICTURES, WINDOW = 60, 200
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def photographs(side: int, factor: float = 1.0, change: Change | None = None) -> list[Measured]:
    """Crops of photographs with ``side`` pixels, blurred by 4 to 8 pixels times ``factor``."""
    opened = [np.asarray(p.open()) for p in PHOTOGRAPHS if p.name not in ("hubble", "brick")]
    measured = []
    for number in range(PICTURES):
        rng = np.random.default_rng([7, number])
        source = opened[number % len(opened)]
        room = min(min(source.shape[:2]), side + 44)
        y, x = (rng.integers(0, length - room + 1) for length in source.shape[:2])
        length = factor * rng.uniform(4.0, 8.0)
        path = random_camera_path(generator(number, Stream.BLUR, 0), length, 0.0)
        result = motion_blur(source[y : y + room, x : x + room], path)[0][:side, :side]
        changed = result if change is None else change(result, rng)
        measured.append(measure(np.rint(changed).clip(0, 255).astype(np.uint8)))
    return measured


@pytest.fixture(scope="module")
def usual() -> list[Measured]:
    return photographs(128)


def windows(watch: DriftWatch, pool: Sequence[Measured], count: int, seed: int = 0) -> None:
    for index in np.random.default_rng(seed).integers(0, len(pool), count * WINDOW):
        watch.seen(pool[index], pool[index].sharpness)


def value(registry: CollectorRegistry, name: str, quantity: str | None = None) -> float | None:
    return registry.get_sample_value(name, {} if quantity is None else {"quantity": quantity})


def test_psi_of_two_bins_is_what_the_formula_says() -> None:
    # Shares (99.5, 299.5) / 399 and so on: half a picture is added to each bin.
    found = psi([99, 299], [199, 199])
    e = np.array([99.5, 299.5]) / 399
    a = np.array([0.5, 0.5])
    assert found == pytest.approx(float(((a - e) * np.log(a / e)).sum()))
    assert psi([10, 20, 30], [10, 20, 30]) == 0.0
    assert psi([3, 8], [8, 3]) == pytest.approx(psi([8, 3], [3, 8]))


def test_an_empty_bin_gives_a_finite_psi() -> None:
    assert 2 < psi([0, 100, 100, 0], [0, 0, 0, 200]) < 20


@pytest.mark.parametrize(("expected", "found"), [(500, 200), (100, 200), (200, 50)])
def test_chance_exceeds_its_bound_once_in_a_thousand(expected: int, found: int) -> None:
    rng = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    bound = psi_by_chance(10, expected, found)
    pairs = zip(
        rng.multinomial(expected, shares, 4000), rng.multinomial(found, shares, 4000), strict=True
    )
    values = np.array([psi(list(before), list(after)) for before, after in pairs])
    assert (values > bound).mean() <= 0.004
    assert values.mean() == pytest.approx(9 * (1 / expected + 1 / found), rel=0.1)
    assert bound < 1.1 * np.quantile(values, 0.999)


def test_two_hundred_windows_of_usual_pictures_make_no_event(usual: list[Measured]) -> None:
    events: list[Event] = []
    windows(DriftWatch(Baseline.of(usual), window=WINDOW, on_drift=events.append), usual, 200)
    assert len(events) <= 2


def test_new_samples_of_the_same_population_make_events_in_less_than_one_percent() -> None:
    events: list[Event] = []
    for trial in range(8):
        rng = np.random.default_rng([5, trial])

        def sample(count: int, rng: np.random.Generator = rng) -> list[Measured]:
            columns = (
                rng.lognormal(-2, 1, count), rng.gamma(4, 3, count), rng.lognormal(0, 0.5, count),
                rng.choice([0.92, 2.07, 12.0], count, p=[0.8, 0.15, 0.05]),
                rng.normal(120, 30, count),
            )  # fmt: skip
            return [Measured(*map(float, row)) for row in zip(*columns, strict=True)]

        watch = DriftWatch(Baseline.of(sample(150)), window=WINDOW, on_drift=events.append)
        windows(watch, sample(5000), 25, seed=trial)
    assert len(events) <= 2  # of 200 windows, five quantities each


@pytest.mark.parametrize(
    ("quantity", "drifted"),
    [
        ("brightness", lambda: photographs(128, change=lambda p, _: 0.6 * p)),
        ("noise", lambda: photographs(128, change=lambda p, r: p + r.normal(0, 12, p.shape))),
        ("blur_px", lambda: photographs(128, factor=2.0)),
        ("megapixels", lambda: photographs(181)),
    ],
)
def test_planted_drift_is_told_within_three_windows(
    usual: list[Measured], quantity: str, drifted: Callable[[], list[Measured]]
) -> None:
    events: list[Event] = []
    watch = DriftWatch(Baseline.of(usual), window=WINDOW, on_drift=events.append)
    windows(watch, usual, 3)
    assert events == []
    windows(watch, drifted(), 3)
    assert quantity in [event["quantity"] for event in events]


def moved(one: Measured) -> Measured:
    return replace(one, brightness=one.brightness + 200)


def test_there_is_one_event_until_a_window_was_usual_again(usual: list[Measured]) -> None:
    events: list[Event] = []
    watch = DriftWatch(Baseline.of(usual), "abc", window=WINDOW, on_drift=events.append)
    bright = [moved(one) for one in usual]
    windows(watch, bright, 1)
    assert events == []  # one window may be chance
    windows(watch, bright, 4)
    assert [event["quantity"] for event in events] == ["brightness"]
    windows(watch, usual, 1)
    windows(watch, bright, 1)
    assert len(events) == 1
    windows(watch, bright, 1)
    assert len(events) == 2


def test_the_event_is_json_and_says_what_how_much_and_of_which_model(
    usual: list[Measured], caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    watch = DriftWatch(Baseline.of(usual), "abc", window=WINDOW, on_drift=events.append)
    windows(watch, [moved(one) for one in usual], 2)
    (event,) = events
    assert json.loads(json.dumps(event)) == event
    assert event["event"] == "deblur.input-drift"
    assert (event["model"], event["quantity"], event["window"]) == ("abc", "brightness", WINDOW)
    assert event["psi"] > event["limit"] > 0.2
    assert event["median"] == pytest.approx(event["usual_median"] + 200, abs=25)
    assert event["time"].endswith("+00:00")
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("the pictures that come have changed: brightness has PSI")
    assert record.fields == event  # type: ignore[attr-defined]


def test_the_threshold_is_the_limit_where_there_are_pictures_enough(usual: list[Measured]) -> None:
    registry = CollectorRegistry()
    many = Baseline.of(usual * 10)
    watch = DriftWatch(many, window=WINDOW, threshold=0.3, registry=registry)
    windows(watch, usual, 1)
    assert value(registry, "deblur_input_psi_limit", "noise") == 0.3
    watch = DriftWatch(Baseline.of(usual[:10]), window=20, registry=(few := CollectorRegistry()))
    windows(watch, usual, 1)
    assert (value(few, "deblur_input_psi_limit", "noise") or 0) > 1.0


def test_metrics_show_windows_and_what_was_measured(usual: list[Measured]) -> None:
    registry = CollectorRegistry()
    watch = DriftWatch(Baseline.of(usual), window=WINDOW, registry=registry)
    for one in (usual * 4)[: WINDOW + 30]:
        watch.seen(one, 2 * one.sharpness)
    assert value(registry, "deblur_input_window_pictures") == 30
    assert value(registry, "deblur_sharpness_gain") == pytest.approx(2.0)
    for quantity in QUANTITIES:
        assert 0 <= (value(registry, "deblur_input_psi", quantity) or 0.0) < 0.2
        assert value(registry, f"deblur_input_{quantity}_count") == WINDOW + 30
    assert value(registry, "deblur_input_brightness_sum") == pytest.approx(
        sum(one.brightness for one in (usual * 4)[: WINDOW + 30])
    )


def test_without_a_baseline_pictures_are_counted_and_nothing_is_compared(
    usual: list[Measured],
) -> None:
    registry = CollectorRegistry()
    events: list[Event] = []
    watch = DriftWatch(None, window=50, registry=registry, on_drift=events.append)
    windows(watch, usual, 2)
    windows(watch, [moved(one) for one in usual], 2)
    assert events == []
    assert "deblur_input_psi{" not in generate_latest(registry).decode()
    assert value(registry, "deblur_input_noise_count") == 4 * WINDOW
    assert value(registry, "deblur_sharpness_gain") == pytest.approx(1.0)


def test_another_model_begins_anew(usual: list[Measured]) -> None:
    registry = CollectorRegistry()
    events: list[Event] = []
    watch = DriftWatch(
        Baseline.of(usual), "one", window=WINDOW, registry=registry, on_drift=events.append
    )
    bright = [moved(one) for one in usual]
    windows(watch, bright, 1)
    watch.seen(bright[0], 1.0)
    watch.against(Baseline.of(bright), "two")
    assert "deblur_input_psi{" not in generate_latest(registry).decode()
    assert value(registry, "deblur_input_window_pictures") == 0
    windows(watch, bright, 3)
    assert events == []
    windows(watch, usual, 2)
    assert [(e["model"], e["quantity"]) for e in events] == [("two", "brightness")]


def test_pictures_of_many_threads_are_all_counted(usual: list[Measured]) -> None:
    registry = CollectorRegistry()
    events: list[Event] = []
    watch = DriftWatch(Baseline.of(usual), window=WINDOW, registry=registry, on_drift=events.append)
    bright = [moved(one) for one in usual]

    def send() -> None:
        for number in range(500):
            watch.seen(bright[number % PICTURES], 1.0)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(registry, "deblur_input_noise_count") == 2000
    assert value(registry, "deblur_input_window_pictures") == 0
    assert [event["quantity"] for event in events] == ["brightness"]


def test_a_picture_and_its_result_are_measured(photograph: np.ndarray) -> None:
    registry = CollectorRegistry()
    watch = DriftWatch(None, window=1, registry=registry)
    watch.compare(photograph // 2, photograph)
    assert value(registry, "deblur_input_brightness_sum") == measure(photograph // 2).brightness
    assert value(registry, "deblur_sharpness_gain") == pytest.approx(1.0, rel=0.1)
    watch.compare(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8))
    assert value(registry, "deblur_input_megapixels_count") == 2


def test_a_callback_that_fails_fails_no_picture(
    usual: list[Measured], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("nobody there")

    watch = DriftWatch(Baseline.of(usual), window=WINDOW, on_drift=broken)
    windows(watch, [moved(one) for one in usual], 3)
    assert "could not be handed on" in caplog.text


@pytest.mark.slow
def test_a_model_file_carries_its_baseline_to_the_server(
    tiny_run: Path, tiny_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from deblur.data.pairs import open_pairs
    from deblur.export import baseline_of as baseline_of_pairs
    from deblur.export import export_checkpoint
    from deblur.training.checkpoint import load_checkpoint

    assert baseline_of(Engine(tiny_model)) is None
    pairs = open_pairs(tiny_data, "train", "blur")
    baseline = baseline_of_pairs(pairs)
    assert baseline == Baseline.of(measure(pairs.read(index)[0]) for index in range(len(pairs)))
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for file in files:
        loaded = load_checkpoint(tiny_run / "best.pt")
        export_checkpoint(loaded, file, {}, "none", photographs={}, baseline=baseline)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert baseline_of(Engine(files[0])) == baseline


def test_a_model_with_a_damaged_baseline_is_served_without(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proto = onnx.load(tiny_model)
    proto.metadata_props.add(key="deblur.baseline", value='{"pictures": 3}')
    onnx.save(proto, tmp_path / "m.onnx")
    assert baseline_of(Engine(tmp_path / "m.onnx")) is None
    assert "unreadable baseline" in caplog.text


@contextmanager
def receiver(answers: list[int]) -> Iterator[tuple[str, list[dict]]]:
    """A real server that gives these answers, the last one again and again."""
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            received.append(json.loads(body))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook?secret=x", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_event_is_posted_and_tried_again_where_the_answer_is_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "PAUSE", 0.02)
    with receiver([503, 429, 200]) as (url, received):
        webhook = Webhook(url)
        webhook({"quantity": "noise"})
        webhook({"quantity": "brightness"})
        webhook.close(10)
    names = [event["quantity"] for event in received]
    assert names == ["noise", "noise", "noise", "brightness"]
    assert "secret" not in caplog.text


def test_prefect_is_told_in_its_own_form_and_counts_an_event_that_comes_twice_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "PAUSE", 0.02)
    event = {
        "event": "deblur.input-drift", "time": "2026-11-23T03:11:28+00:00",
        "model": "9f2c" * 16, "quantity": "noise",
    }  # fmt: skip
    with receiver([503, 204]) as (url, received):
        webhook = Webhook(url, "prefect")
        webhook(event)
        webhook.close(10)
    assert received[0] == received[1]
    (told,) = received[0]
    assert told.pop("id")
    assert told == {
        "occurred": event["time"],
        "event": "deblur.input-drift",
        "resource": {"prefect.resource.id": "deblur.model.9f2c9f2c9f2c"},
        "payload": event,
    }


def test_an_event_that_is_refused_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with receiver([404, 200]) as (url, received):
        webhook = Webhook(url)
        webhook({"quantity": "noise"})
        webhook({"quantity": "brightness"})
        webhook.close(10)
    assert [event["quantity"] for event in received] == ["noise", "brightness"]
    assert "refused an event of drift with 404" in caplog.text


def test_a_webhook_out_of_reach_holds_nothing_up(
    usual: list[Measured], caplog: pytest.LogCaptureFixture
) -> None:
    webhook = Webhook("http://127.0.0.1:9/hook")  # discard: nobody listens there
    watch = DriftWatch(Baseline.of(usual), window=WINDOW, on_drift=webhook)
    windows(watch, [moved(one) for one in usual], 2)
    webhook.close(0.5)
    assert "lost: 1 events of drift" in caplog.text


def test_a_webhook_is_an_address_of_the_web() -> None:
    with pytest.raises(ConfigError, match="does not begin with http"):
        Webhook("file:///etc/passwd")


def test_a_picture_that_cannot_be_measured_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(pixels: np.ndarray) -> Measured:
        raise MemoryError("no room")

    monkeypatch.setattr("deblur.serving.drift.measure", fails)
    DriftWatch(None).compare(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))
    assert "a picture could not be measured" in caplog.text
