"""What steps came to, and how fast they went."""

import time

import pytest
import torch

from deblur.training.readings import Meter, Reading, Readings


def test_readings_come_in_order_and_at_once_on_a_cpu() -> None:
    readings = Readings(torch.device("cpu"))
    got = [r for step in (1, 2) for r in readings.put(step, torch.tensor([0.5, 2.0, step - 1.0]))]
    assert got == [Reading(1, 0.5, 2.0, False), Reading(2, 0.5, 2.0, True)]
    assert list(readings.drain()) == []


def test_the_meter_tells_waiting_from_working_and_leaves_pauses_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    meter = Meter()
    for _ in range(4):
        meter.add(data_time=0.1, crops=8)
    meter.pause(10.0)
    now = 112.0
    assert meter.read() == {
        "data_time": pytest.approx(0.1),
        "step_time": pytest.approx(0.5),
        "crops_per_s": pytest.approx(16.0),
    }
    meter.add(data_time=0.0, crops=8)
    now = 113.0
    assert meter.read()["crops_per_s"] == pytest.approx(8.0)
