"""Training learns, reports, keeps what it should, and stops when it should."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from deblur.data.pairs import open_pairs
from deblur.data.prepare import prepare
from deblur.device import choose_numerics
from deblur.errors import ConfigError, DeblurError
from deblur.evaluation import evaluate
from deblur.training.checkpoint import load_checkpoint
from deblur.training.config import TrainConfig, make_config
from deblur.training.train import train
from tests.conftest import TINY
from tests.training.test_resume import newest


def weights(path: Path) -> dict[str, torch.Tensor]:
    return newest(path).model


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def changed(config: TrainConfig, **values: object) -> TrainConfig:
    return make_config("seed", {**config.model_dump(), **values})


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int | None, dict[str, float]]] = []
        self.pictures: list[tuple[str, int | None]] = []

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.steps.append((step, dict(values)))

    def picture(self, image: object, name: str, step: int | None = None) -> None:
        self.pictures.append((name, step))


def test_overfitting_a_tiny_set_beats_the_blurred_input(tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(
        "seed",
        {**TINY, "num_epochs": 1, "crops_per_image": 150, "schedule": "cosine", "clip_norm": 1.0},
    )
    recorder = Recorder()
    summary = train(config, tiny_data, tmp_path, tracker=recorder)
    predict = load_checkpoint(summary.last).predictor()
    scores = evaluate(predict, open_pairs(tiny_data, "train"))
    identity = evaluate(lambda planes: planes, open_pairs(tiny_data, "train"))
    assert scores.loss < 0.9 * identity.loss
    assert scores.gain > 0.5


def test_every_epoch_reports_the_metrics_of_the_users_document(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    recorder = Recorder()
    train(tiny_config, tiny_data, tmp_path, tracker=recorder)
    epochs = [(step, values) for step, values in recorder.steps if "train_loss" in values]
    assert [step for step, _ in epochs] == [1, 2]
    for _, values in epochs:
        assert {"train_loss", "val_loss", "psnr", "ssim", "blurred_psnr"} <= values.keys()
    assert recorder.pictures == [("validation", 1), ("validation", 2), ("learning_curve", None)]


def test_speed_gradient_and_memory_are_reported_by_steps(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    recorder = Recorder()
    train(changed(tiny_config, log_every=2), tiny_data, tmp_path, tracker=recorder)
    points = [(step, values) for step, values in recorder.steps if "loss" in values]
    assert [step for step, _ in points] == [2, 4]
    for _, values in points:
        assert 0 <= values["data_time"] < values["step_time"]
        assert values["crops_per_s"] == pytest.approx(4 / values["step_time"], rel=0.5)
        assert values["grad_norm"] > 0
        assert values["peak_memory_gb"] > 0.05
        assert values["learning_rate"] == tiny_config.learning_rate
        assert values["skipped_steps"] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_pictures_equals_training_from_shards(
    tiny_root: Path, tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path, workers: int
) -> None:
    losses = []
    for name, data in (("pictures", tiny_root), ("shards", tiny_data)):
        recorder = Recorder()
        train(changed(tiny_config, workers=workers), data, tmp_path / name, tracker=recorder)
        losses.append([values["train_loss"] for _, values in recorder.steps if "psnr" in values])
    assert losses[0] == losses[1]
    pictures, shards = (newest(tmp_path / name) for name in ("pictures", "shards"))
    assert_identical(pictures.model, shards.model)
    assert pictures.data_digest == shards.data_digest


def test_training_on_shake_made_anew_never_reads_the_blurred_pictures(
    tiny_root: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    def prepared(name: str, blackened: bool) -> Path:
        root = shutil.copytree(tiny_root, tmp_path / name)
        for file in (root / "train").glob("*/blur/*.png") if blackened else ():
            Image.new("RGB", Image.open(file).size).save(file)
        prepare(root, tmp_path / f"{name}-prepared")
        return tmp_path / f"{name}-prepared"

    config = changed(tiny_config, shake={"shortest": 3, "longest": 6, "perspective": 0})
    config = changed(config, patch_size=48)
    weights = []
    for name, blackened in (("as it is", False), ("blackened", True)):
        out = tmp_path / f"run {name}"
        train(config, prepared(name, blackened), out)
        weights.append(newest(out).model)
    assert_identical(*weights)


def test_a_finished_run_is_not_trained_again(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    first = train(tiny_config, tiny_data, tmp_path)
    stamp = first.last.stat().st_mtime_ns
    recorder = Recorder()
    assert train(tiny_config, tiny_data, tmp_path, tracker=recorder) == first
    assert first.last.stat().st_mtime_ns == stamp
    assert recorder.steps == []


def test_best_last_and_every_tenth_epoch_are_kept(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    train(changed(tiny_config, num_epochs=5, checkpoint_every=2), tiny_data, tmp_path)
    names = sorted(p.name for p in tmp_path.glob("*.pt"))
    assert names == [
        "best.pt", "epoch_0002.pt", "epoch_0004.pt", "step_00000008.pt", "step_00000010.pt",
    ]  # fmt: skip
    assert (tmp_path / "learning_curve.png").stat().st_size > 1000


def test_patience_stops_a_run_that_no_longer_improves(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    # A rate this small changes nothing that rounding to 8 bit would show.
    config = changed(tiny_config, num_epochs=9, patience=2, learning_rate=1e-12)
    summary = train(config, tiny_data, tmp_path)
    assert summary.stopped_early
    assert summary.epochs == 3


def test_a_diverged_loss_ends_the_run_with_advice(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(DeblurError, match="lower learning_rate"):
        train(changed(tiny_config, learning_rate=1e30), tiny_data, tmp_path)


def test_mixed_precision_trains_on_the_cpu(
    tiny_data: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    fp32 = train(tiny_config, tiny_data, tmp_path / "fp32")
    bf16 = train(changed(tiny_config, precision="bf16"), tiny_data, tmp_path / "bf16")
    assert weights(tmp_path / "bf16")["final.weight"].dtype == torch.float32
    assert bf16.psnr == pytest.approx(fp32.psnr, abs=0.3)


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        choose_numerics("fp16", "cpu")
