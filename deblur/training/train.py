"""Training a network: a data set and a configuration in, a run's folder out."""

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropFeed
from deblur.data.manifest import Manifest
from deblur.data.pairs import Pairs, open_pairs
from deblur.data.photo_crops import PhotoCrops
from deblur.data.prepare import describe
from deblur.device import choose_numerics
from deblur.errors import CheckpointError
from deblur.progress import SILENT, Progress
from deblur.stopping import stop_signals
from deblur.tracking import NO_TRACKING, Tracker
from deblur.training.config import TrainConfig
from deblur.training.folder import BEST, CheckpointFolder
from deblur.training.loop import Training
from deblur.training.plan import make_plan
from deblur.training.run import TrainingRun, differences
from deblur.training.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSummary:
    """What a finished training came to.

    Attributes:
        best: the checkpoint with the highest validation PSNR, ``last``: the final one.
        epochs: epochs done, ``step``: optimizer steps done.
        psnr: highest validation PSNR in dB, ``blurred_psnr``: that of the blurred input.
        hours: time spent training, in all sittings.
        stopped_early: whether patience ran out before ``num_epochs``.
    """

    best: Path
    last: Path
    epochs: int
    step: int
    psnr: float
    blurred_psnr: float
    hours: float
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
    world: World = World(),
    adopt: bool = False,
) -> TrainSummary:
    """Train on a data set; go on from the newest checkpoint in ``out`` if there is one.

    All that is random is a function of (seed, epoch, index), so a run that was killed and resumed,
    in the middle of an epoch, too, equals one that was never interrupted; on a CPU to the bit.

    Args:
        config: what to train.
        data: a data set, prepared or not: pictures decoded anew for each crop give the same
            training, slowly.
        out: folder of the run, made if missing.
        manifest: of the data, if it is known already.
        tracker: receives metrics and pictures.
        progress: shows steps, rate and time left.
        device: a torch device name instead of the automatic choice.
        world: the processes that train together; ``tracker``, ``progress`` and the folder are used
            by the first of them alone.
        adopt: go on even if ``out`` holds a run of other settings or data.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: ``out`` belongs to another configuration or data set, or cannot be written.
        DivergedError: no finite loss, again and again.
        StoppedError: a signal asked for the end; everything is saved, the same call goes on.
    """
    numerics = choose_numerics(config.precision, device or world.device)
    if manifest is None:
        manifest = world.of_first(describe(data, config.subset, progress) if world.writes else None)
        assert manifest is not None
    sources = training_crops(data, config)
    plan = make_plan(config, lambda size: len(sources[size]))
    folder = CheckpointFolder(out, config.keep)
    with (
        folder.writing() if world.writes else nullcontext(),
        torch.random.fork_rng([numerics.device] if numerics.device.type == "cuda" else []),
        stop_signals() as stop,
    ):
        run = TrainingRun(config, manifest.digest, numerics, world)
        kept = world.of_first(folder.newest() if world.writes else None)
        if kept is not None:
            changed = differences(kept, config, manifest.digest)
            if changed and not adopt:
                raise CheckpointError(
                    f"{out} holds another run ({'; '.join(changed)}): name another folder, remove "
                    "this one to start over, or go on from it all the same with --adopt"
                )
            run.resume(kept)
            if changed:
                log.warning("going on from a run that differs: %s", "; ".join(changed))
                run.start_epoch_again(plan.steps_before(run.epoch))
        training = Training(
            run, plan, sources, validation_pairs(data, manifest), manifest.kind, folder,
            tracker if world.writes else NO_TRACKING, progress if world.writes else SILENT, stop,
        )  # fmt: skip
        training.all_epochs()
    return TrainSummary(
        best=out / BEST,
        last=out / (folder.latest or BEST),
        epochs=run.epoch,
        step=run.step,
        psnr=run.best_psnr,
        blurred_psnr=run.history[-1]["blurred_psnr"],
        hours=run.seconds / 3600,
        stopped_early=run.epoch < config.num_epochs,
    )


def training_crops(data: Path | str, config: TrainConfig) -> dict[int, CropFeed | PhotoCrops]:
    """The crops of the split ``train``, by the side that they have in the phases: of its pairs, or
    of its sharp pictures to be shaken.
    """
    pairs = open_pairs(data, "train", config.subset)
    sizes = {config.patch_size, *([config.last_patch_size] if config.last_epochs else [])}
    if config.shake is not None:
        shake = config.shake
        return {size: PhotoCrops(pairs, shake, size, config.crops_per_image) for size in sizes}
    return {
        size: CropFeed(
            DeblurDataset(
                pairs, patch_size=size, seed=config.seed, crops_per_image=config.crops_per_image
            )
        )
        for size in sizes
    }


def validation_pairs(data: Path | str, manifest: Manifest) -> Pairs:
    """The pairs of the split that training watches."""
    return open_pairs(data, validation_split(manifest.splits), manifest.subset)


def validation_split(splits: Iterable[str]) -> str:
    """``val`` where a data set has one, else ``test``.

    GOPRO_Large has no ``val``; the field watches ``test`` there, and so do we.
    """
    return next(split for split in ("val", "test", "train") if split in set(splits))
