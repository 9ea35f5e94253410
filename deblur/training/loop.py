"""The training loop."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from deblur.data.crops import EpochBatches
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropBatch, CropFeed, feed
from deblur.data.manifest import Manifest
from deblur.data.pairs import Pairs, open_pairs
from deblur.data.photo_crops import PhotoCrops
from deblur.data.prepare import describe
from deblur.data.synthesis.on_device import PhotoBatch
from deblur.device import choose_numerics
from deblur.errors import DeblurError
from deblur.progress import SILENT, Progress, clock_time
from deblur.tracking import NO_TRACKING, Tracker
from deblur.training.checkpoint import BEST, LAST
from deblur.training.config import TrainConfig
from deblur.training.run import TrainingRun, learning_rate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSummary:
    """What a finished training came to.

    Attributes:
        best: the checkpoint with the highest validation PSNR, ``last``: the final one.
        epochs: epochs done, ``step``: optimizer steps done.
        psnr: highest validation PSNR in dB, ``blurred_psnr``: that of the blurred input.
        stopped_early: whether patience ran out before ``num_epochs``.
    """

    best: Path
    last: Path
    epochs: int
    step: int
    psnr: float
    blurred_psnr: float
    stopped_early: bool


def train(
    config: TrainConfig,
    data: Path | str,
    out: Path,
    *,
    manifest: Manifest | None = None,
    tracker: Tracker = NO_TRACKING,
    progress: Progress = SILENT,
    device: str | None = None,
) -> TrainSummary:
    """Train on a data set; go on from ``out/last.pt`` if that is there.

    Every epoch ends with ``last.pt``; every ``checkpoint_every`` epochs one is kept as
    ``epoch_0010.pt``; ``best.pt`` is the one of the highest validation PSNR. All that is random is
    a function of (seed, epoch, index), so a resumed run equals one that was never interrupted.

    Args:
        config: what to train.
        data: a data set, prepared or not: pictures decoded anew for each crop give the same
            training, slowly.
        out: folder of the run, made if missing.
        manifest: of the data, if it is known already.
        tracker: receives metrics and pictures of every epoch.
        progress: shows steps, rate and time left.
        device: a torch device name instead of the automatic choice.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: ``out`` belongs to another configuration or data set, or cannot be written.
    """
    numerics = choose_numerics(config.precision, device)
    manifest = manifest or describe(data, config.subset, progress)
    crops = training_crops(data, config)
    validation = validation_pairs(data, manifest)
    run = TrainingRun(config, manifest.digest, numerics)
    out.mkdir(parents=True, exist_ok=True)
    run.resume(out / LAST)

    batches = EpochBatches(
        len(crops), config.batch_size, config.seed, range(run.epoch, config.num_epochs)
    )
    total_steps = batches.per_epoch * config.num_epochs
    stream: Iterator[CropBatch | PhotoBatch] = feed(crops, batches, config.workers, numerics.device)
    log.info(
        "training on %s in %s: %d crops, %d steps an epoch, %d of %d epochs done",
        numerics.device, numerics.name, len(crops), batches.per_epoch, run.epoch,
        config.num_epochs,
    )  # fmt: skip

    first_step, first_time = run.step, time.monotonic()
    while run.epoch < config.num_epochs and not run.out_of_patience():
        name = f"epoch {run.epoch + 1}/{config.num_epochs}"
        started = time.monotonic()
        with progress.task(name, batches.per_epoch, "steps") as advance:
            losses = []
            for _ in range(batches.per_epoch):
                losses.append(run.train_step(next(stream), total_steps))
                note = ""
                if run.step % 20 == 1:  # reading the loss waits for the device
                    rate = (run.step - first_step) / (time.monotonic() - first_time)
                    left = clock_time((total_steps - run.step) / rate)
                    note = f"loss {losses[-1].item():.4f}, {left} left in all"
                advance(1, note)
        train_loss = float(torch.stack(losses).mean())
        if not math.isfinite(train_loss):
            raise DeblurError(
                f"the loss became {train_loss} in epoch {run.epoch + 1}: lower learning_rate, set "
                "clip_norm=1 or precision=fp32, and train in a new folder"
            )
        run.epoch += 1
        metrics = {
            "train_loss": train_loss,
            "learning_rate": learning_rate(config, run.step - 1, total_steps),
            "crops_per_second": len(crops) / (time.monotonic() - started),
        }
        improved = False
        if run.epoch % config.validate_every == 0 or run.epoch == config.num_epochs:
            scores = run.validate(validation, progress)
            improved = run.remember(scores)
            metrics |= {"val_loss": scores.loss, "psnr": scores.psnr, "ssim": scores.ssim}
            metrics["blurred_psnr"] = scores.blurred_psnr
            footer = f"epoch {run.epoch}, {manifest.kind} blur"
            tracker.picture(run.sheet(validation, footer), "validation", run.epoch)
        run.save(out, improved)
        tracker.metrics(metrics, run.epoch)
        log.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))

    return TrainSummary(
        best=out / BEST,
        last=out / LAST,
        epochs=run.epoch,
        step=run.step,
        psnr=run.best_psnr,
        blurred_psnr=run.metrics["blurred_psnr"],
        stopped_early=run.epoch < config.num_epochs,
    )


def training_crops(data: Path | str, config: TrainConfig) -> CropFeed | PhotoCrops:
    """The crops of the split ``train``: of its pairs, or of its sharp pictures to be shaken."""
    pairs = open_pairs(data, "train", config.subset)
    if config.shake is not None:
        return PhotoCrops(pairs, config.shake, config.patch_size, config.crops_per_image)
    return CropFeed(
        DeblurDataset(
            pairs,
            patch_size=config.patch_size,
            seed=config.seed,
            crops_per_image=config.crops_per_image,
        )
    )


def validation_pairs(data: Path | str, manifest: Manifest) -> Pairs:
    """The split that training watches: ``val`` where the data set has one, else ``test``.

    GOPRO_Large has no ``val``; the field watches ``test`` there, and so do we.
    """
    split = next(s for s in ("val", "test", "train") if s in manifest.splits)
    return open_pairs(data, split, manifest.subset)
