"""The search: what it tries, what it chooses, and what it remembers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deblur.data.pairs import Pairs, open_pairs
from deblur.errors import ModelFileError
from deblur.gates.check import Check
from deblur.images import read_rgb
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting
from deblur.tuning import bench, search
from deblur.tuning.picture import tuning_picture
from deblur.tuning.search import Effort, timing_picture, tune, ways_to_share

SMALL = Effort(side=96, pictures=1, rounds=1, tiles=(64, 96), overlaps=(16, 32))


@pytest.fixture
def train(tiny_data: Path) -> Pairs:
    return open_pairs(tiny_data, "train")


@pytest.fixture
def validation(tiny_data: Path) -> Pairs:
    return open_pairs(tiny_data, "val")


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of four CPUs without the OpenVINO plugin, on which everything else runs."""

    def why_not(model: Path, setting: Setting) -> str:
        return "the plugin is not installed" if setting.provider == "openvino" else ""

    monkeypatch.setattr(bench, "why_not", why_not)
    monkeypatch.setattr(bench, "check_seams", lambda *args: ())
    monkeypatch.setattr(search, "usable_cpus", lambda: 4)


def seconds_of(setting: Setting) -> float:
    """Time on a machine where int8, small overlaps and two streams are fast."""
    seconds = 1.0 if setting.precision == "int8" else 2.0
    seconds *= 1 + setting.overlap / setting.tile
    return seconds * (0.5 if setting.streams == 2 else 1.0)


def watch(timed: list[Setting]) -> Callable[[Engine, np.ndarray], float]:
    def clock(engine: Engine, planes: np.ndarray) -> float:
        assert planes.shape == (1, 3, 96, 96)
        timed.append(engine.setting)
        return seconds_of(engine.setting)

    return clock


def test_the_fastest_within_the_gate_is_chosen(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path,
    only_cpu: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(search, "GATE", 99.0)
    found = tune(tiny_model, train, validation, tmp_path, SMALL, clock=watch([]))
    assert found.choice.setting == Setting(
        precision="int8", tile=96, overlap=16, threads=2, streams=2
    )
    reference = Setting(tile=64, overlap=16)
    assert found.reference.setting == reference
    assert found.reference.loss == 0.0
    expected = seconds_of(reference) / seconds_of(found.choice.setting)
    assert found.speed_up == pytest.approx(expected)
    megapixels = 96 * 96 / 1e6
    assert found.reference.ms_per_mp == pytest.approx(1000 * 2.5 / megapixels)
    assert (tmp_path / "model.int8.onnx").is_file()
    assert Engine(tmp_path / "model.int8.onnx").contract.precision == "int8"


def test_what_loses_more_than_the_gate_is_not_chosen_however_fast(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path,
    only_cpu: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(search, "GATE", 0.0)
    (tmp_path / "model.int8.onnx").write_bytes(b"of an earlier tuning")
    found = tune(tiny_model, train, validation, tmp_path, SMALL, clock=watch([]))
    losses = {c.setting: c.loss for c in found.candidates if c.loss is not None}
    assert any(loss > 0 for loss in losses.values())
    assert found.choice.passed
    assert losses[found.choice.setting] <= 0.0
    refused = [c for c in found.candidates if c.loss is not None and c.loss > 0]
    assert all("dB, allowed are 0" in c.why_not and not c.passed for c in refused)
    assert not list(tmp_path.glob("*.onnx")) or found.choice.setting.precision == "int8"


def test_a_setting_whose_tiles_show_is_not_chosen_however_fast(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path,
    only_cpu: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def large_ones_show(predict: object, tile: int, *rest: object) -> list[Check]:
        return [Check("sky_step", 0.8 if tile == 96 else 0.1, "at most", 0.5, "levels", "")]

    monkeypatch.setattr(search, "GATE", 99.0)
    monkeypatch.setattr(bench, "check_seams", large_ones_show)
    found = tune(tiny_model, train, validation, tmp_path, SMALL, clock=watch([]))
    assert found.choice.setting == Setting(
        precision="int8", tile=64, overlap=16, threads=2, streams=2
    )
    shown = [c for c in found.candidates if c.setting.tile == 96]
    assert any("sky_step 0.8 levels" in c.why_not and not c.passed for c in shown)


def test_what_cannot_run_is_recorded_and_does_not_end_the_tuning(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path, only_cpu: None
) -> None:
    def clock(engine: Engine, planes: np.ndarray) -> float:
        if engine.setting.precision == "int8":
            raise MemoryError
        return seconds_of(engine.setting)

    found = tune(tiny_model, train, validation, tmp_path, SMALL, clock=clock)
    said = {(c.setting.provider, c.setting.precision): c.why_not for c in found.candidates}
    assert said["openvino", "bf16"] == "the plugin is not installed"
    assert said["cpu", "int8"] == "MemoryError"
    assert found.choice.setting.provider == "cpu"
    assert found.choice.setting.precision == "fp32"


@pytest.mark.slow
def test_an_interrupted_tuning_goes_on_and_measures_nothing_twice(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path, only_cpu: None
) -> None:
    timed: list[Setting] = []
    whole = tune(tiny_model, train, validation, tmp_path / "whole", SMALL, clock=watch(timed))

    before: list[Setting] = []

    def interrupted(engine: Engine, planes: np.ndarray) -> float:
        if len(before) == 5:
            raise KeyboardInterrupt
        return watch(before)(engine, planes)

    with pytest.raises(KeyboardInterrupt):
        tune(tiny_model, train, validation, tmp_path / "two", SMALL, clock=interrupted)
    after: list[Setting] = []
    resumed = tune(tiny_model, train, validation, tmp_path / "two", SMALL, clock=watch(after))
    assert before + after == timed
    assert resumed == whole

    again: list[Setting] = []
    assert tune(tiny_model, train, validation, tmp_path / "two", SMALL, clock=watch(again)) == whole
    assert again == []


def test_the_file_says_what_was_measured_where(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path, only_cpu: None
) -> None:
    found = tune(tiny_model, train, validation, tmp_path, SMALL, clock=watch([]))
    written = json.loads((tmp_path / "tuning.json").read_text())
    assert written["machine"]["versions"]["onnxruntime"]
    assert written["machine"]["cpus"] >= 1
    assert written["gate"] == 0.05
    assert written["scored"] == ["lettering-val/000001.png"]
    assert Setting(**written["choice"]["setting"]) == found.choice.setting
    assert len(written["candidates"]) == len(found.candidates)
    picture = tuning_picture(found)
    assert picture.size == (1200, 760)
    # Something is drawn in the colour of fp32.
    pixels = np.asarray(picture).reshape(-1, 3)
    assert (pixels == (0x00, 0x72, 0xB2)).all(axis=1).sum() > 30


def test_a_quantised_file_is_not_tuned(
    tiny_model: Path, train: Pairs, validation: Pairs, tmp_path: Path, only_cpu: None
) -> None:
    from deblur.quantise import calibration_tiles, quantise

    quantised = quantise(tiny_model, tmp_path / "q.onnx", calibration_tiles(train, 64))
    with pytest.raises(ModelFileError, match="in int8 already"):
        tune(quantised, train, validation, tmp_path)


def test_the_timed_picture_has_the_size_asked_for(tiny_root: Path) -> None:
    picture = read_rgb(next((tiny_root / "val").rglob("blur/*.png")))
    large = timing_picture(picture, 400)
    assert large.shape == (400, 400, 3)
    height, width, _ = picture.shape
    assert np.array_equal(large[:height, :width], picture)
    assert np.array_equal(large[height, :width], picture[-1])
    assert np.array_equal(timing_picture(picture, 50), picture[:50, :50])


@pytest.mark.parametrize(
    ("cpus", "ways"), [(1, []), (2, [(1, 1), (1, 2)]), (8, [(4, 1), (4, 2), (1, 8)])]
)
def test_ways_to_share_the_cpus(cpus: int, ways: list[tuple[int, int]]) -> None:
    assert ways_to_share(cpus) == ways
