"""The training loop."""

import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

from deblur.atomic import whole_file
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropFeed, feed
from deblur.data.manifest import Manifest
from deblur.data.pairs import Pairs, open_pairs
from deblur.data.photo_crops import PhotoCrops
from deblur.data.prepare import describe
from deblur.device import choose_numerics, peak_memory_gb
from deblur.errors import CheckpointError, StoppedError
from deblur.evaluation import Scores, evaluate, interleaved
from deblur.images import to_float, to_uint8
from deblur.progress import SILENT, Advance, Progress
from deblur.sheet import SheetRow, before_after_sheet
from deblur.tracking import NO_TRACKING, Tracker
from deblur.training.compiling import compile_where_it_pays
from deblur.training.config import TrainConfig
from deblur.training.curve import CurvePoint, learning_curve
from deblur.training.folder import BEST, CheckpointFolder, epoch_name
from deblur.training.plan import Plan, make_plan
from deblur.training.readings import Meter, Reading, Readings
from deblur.training.run import Batch, TrainingRun, differences, loss_share
from deblur.training.stopping import StopRequest, stop_signals
from deblur.training.trouble import DivergedError, diverged, memory_advice, save_bad_batch
from deblur.training.world import World

log = logging.getLogger(__name__)

CURVE = "learning_curve.png"


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
    sources = {
        size: training_crops(data, config, size)
        for size in {config.patch_size, *([config.last_patch_size] if config.last_epochs else [])}
    }
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
            run, plan, sources, validation_pairs(data, manifest), manifest.kind, out, folder,
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


class Training:
    """A run on its way through the plan: reading, stepping, validating, saving, stopping."""

    def __init__(
        self,
        run: TrainingRun,
        plan: Plan,
        sources: dict[int, CropFeed | PhotoCrops],
        validation: Pairs,
        data_kind: str,
        out: Path,
        folder: CheckpointFolder,
        tracker: Tracker,
        progress: Progress,
        stop: StopRequest,
    ) -> None:
        self.run = run
        self.plan = plan
        self.sources = sources
        self.validation = validation
        self.data_kind = data_kind
        self.out = out
        self.folder = folder
        self.tracker = tracker
        self.progress = progress
        self.stop = stop
        self.config, self.world = run.config, run.world
        self.readings = Readings(run.numerics.device)
        self.meter = Meter()
        self.speed: dict[str, float] = {}
        self.note = ""
        self.seconds_before = run.seconds
        self.started = self.saved = time.monotonic()

    def all_epochs(self) -> None:
        """Go through the epochs that are left."""
        run, plan = self.run, self.plan
        if self._finished():
            return
        log.info(
            "training on %s in %s%s: %d crops in %d steps, %d done", run.numerics.device,
            run.numerics.name, "" if self.world.alone else f", {self.world.size} processes",
            plan.total_crops, plan.total_steps, run.step,
        )  # fmt: skip
        compile_where_it_pays(run, plan)
        batches = self._batches()
        self.started = self.saved = time.monotonic()
        with self.progress.task("train", plan.total_steps, "steps", done=run.step) as advance:
            try:
                while not self._finished():
                    self._train_epoch(batches, advance)
                    self._close_epoch()
            finally:
                batches.close()
        if self.world.writes:
            self.folder.flush()
            self._draw_curve()

    def _finished(self) -> bool:
        return self.run.epoch >= self.config.num_epochs or self.run.out_of_patience()

    def _position(self) -> int:
        """Batches of the epoch under way that are done."""
        return self.run.step - self.plan.steps_before(self.run.epoch)

    def _batches(self) -> Generator[Batch]:
        """This process's parts of all batches that are left, read ahead."""
        epoch, start = self.run.epoch, self._position()
        while epoch < self.config.num_epochs:
            phase = self.plan.phase_of(epoch)
            yield from feed(
                self.sources[phase.patch_size],
                phase.batches(self.config.seed, epoch, start, self.world),
                self.config.workers,
                self.run.numerics.device,
            )
            epoch, start = phase.epochs.stop, 0

    def _train_epoch(self, batches: Iterator[Batch], advance: Advance) -> None:
        run, phase = self.run, self.plan.phase_of(self.run.epoch)
        for number in range(self._position(), phase.steps_per_epoch):
            asked = time.perf_counter()
            batch = next(batches)
            data_time = time.perf_counter() - asked
            crops = min(phase.batch_size, phase.crops - number * phase.batch_size)
            with memory_advice(phase, self.world.size):
                values = run.train_step(
                    batch, self.plan.learning_rate(run.step), loss_share(crops, self.world)
                )
            self.meter.add(data_time, crops)
            for reading in self.readings.put(run.step, values):
                self._read(reading)
            advance(1, f"epoch {run.epoch + 1}/{self.config.num_epochs}{self.note}")
            self._between_steps()

    def _read(self, reading: Reading) -> None:
        """Look at what a step came to."""
        run, step = self.run, reading.step
        run.skipped_in_row = run.skipped_in_row + 1 if reading.skipped else 0
        run.skipped += reading.skipped
        if reading.skipped:
            log.warning(
                "step %d skipped: loss %g, gradient norm %g", step, reading.loss, reading.grad_norm
            )
            if run.skipped_in_row >= self.config.max_skipped:
                self._give_up(reading)
        if step % self.config.log_every == 0 or not self.speed:
            self.speed = self.meter.read()
        if step % self.config.log_every == 0:
            self.tracker.metrics(
                {
                    "loss": reading.loss,
                    "grad_norm": reading.grad_norm,
                    "learning_rate": self.plan.learning_rate(step - 1),
                    "skipped_steps": run.skipped,
                    "peak_memory_gb": peak_memory_gb(run.numerics.device),
                    **self.speed,
                },
                step,
            )
        last = run.history[-1] if run.history else None
        quality = f", {last['psnr']:.2f} dB (input {last['blurred_psnr']:.2f})" if last else ""
        self.note = f", loss {reading.loss:.4f}{quality}, {self.speed['crops_per_s']:.0f} crops/s"

    def _give_up(self, reading: Reading) -> None:
        """Write down which batch it was, and end."""
        epoch = self.plan.epoch_of(reading.step - 1)
        phase, start = self.plan.phase_of(epoch), reading.step - 1 - self.plan.steps_before(epoch)
        crops = next(iter(phase.batches(self.config.seed, epoch, start)))
        source = self.sources[phase.patch_size]
        if self.world.writes:
            save_bad_batch(self.out, source, crops, reading.step, reading.loss)
        raise diverged(self.run.skipped_in_row, self.out)

    def _between_steps(self) -> None:
        """Stop if anybody was asked to, save if it is time."""
        due = time.monotonic() - self.saved > 60 * self.config.save_minutes
        stop, save = self.world.agree(self.stop.signum, due and self.world.writes)
        if stop:
            self._stop(stop)
        if save:
            self._save()
        if self.world.writes:
            self.folder.check()

    def _stop(self, signum: int) -> None:
        self._save()
        if self.world.writes:
            self.folder.flush()
            if self.run.history:
                self._draw_curve()
        raise StoppedError(
            signum,
            f"stopped after step {self.run.step} of {self.plan.total_steps}; everything is saved "
            f"in {self.out}, the same command goes on from there",
        )

    def _close_epoch(self) -> None:
        """Validate if it is time, report, save."""
        run, epoch = self.run, self.run.epoch + 1
        for reading in self.readings.drain():
            self._read(reading)
        train_loss = run.epoch_loss()
        if not math.isfinite(train_loss):
            raise DivergedError(
                f"no step of epoch {epoch} had a finite loss: lower learning_rate, set clip_norm=1 "
                "or precision=fp32, and train in a new folder"
            )
        metrics, names = {"train_loss": train_loss}, []
        if epoch % self.config.validate_every == 0 or epoch == self.config.num_epochs:
            scores = self._validate()
            point = self._point(epoch, train_loss, scores)
            if run.remember(asdict(point)):
                names.append(BEST)
            metrics |= {"val_loss": scores.loss, "psnr": scores.psnr, "ssim": scores.ssim}
            metrics["blurred_psnr"] = scores.blurred_psnr
        if epoch % self.config.checkpoint_every == 0:
            names.append(epoch_name(epoch))
        run.end_epoch()
        # Reported before it is saved: what is reported twice after a kill is known by its step.
        self.tracker.metrics(metrics, epoch)
        self._save(names)
        log.info(
            "epoch %d/%d: %s", epoch, self.config.num_epochs,
            ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()),
        )  # fmt: skip

    def _validate(self) -> Scores:
        """Score whole pictures, each by one of the processes; make the sheet."""
        began, world = time.perf_counter(), self.world
        share: Scores | None = None
        with suppress(StoppedError):  # all stop together, below
            share = evaluate(
                self.run.predictor(), self.validation, self.progress, self.config.loss_eps,
                "validation", indices=range(world.rank, len(self.validation), world.size),
                between=self._leave_validation,
            )  # fmt: skip
        shares = world.gather(share)
        (signum,) = world.agree(self.stop.signum)
        if any(share is None for share in shares):
            self._stop(signum)
        scores = interleaved([share for share in shares if share is not None])
        if not math.isfinite(scores.loss):
            raise DivergedError(
                f"the validation loss became {scores.loss}: lower learning_rate, set clip_norm=1 "
                "or precision=fp32, and train in a new folder"
            )
        if world.writes:
            self.tracker.picture(self._sheet(), "validation", self.run.epoch + 1)
        self.meter.pause(time.perf_counter() - began)
        return scores

    def _leave_validation(self) -> None:
        if self.stop.signum:
            raise StoppedError(self.stop.signum, "asked to stop during validation")

    def _sheet(self) -> Image.Image:
        """The first and the middle validation picture before and after."""
        predict, pairs, rows = self.run.predictor(), self.validation, []
        for index in sorted({0, len(pairs) // 2}):
            blurred, sharp = pairs.read(index)
            title = f"{pairs.scenes[index]}/{pairs.names[index]}"
            rows.append(SheetRow(title, blurred, to_uint8(predict(to_float(blurred))), sharp))
        return before_after_sheet(rows, f"epoch {self.run.epoch + 1}, {self.data_kind} blur")

    def _point(self, epoch: int, train_loss: float, scores: Scores) -> CurvePoint:
        return CurvePoint(
            epoch=epoch,
            step=self.run.step,
            crops=self.plan.crops_before(epoch),
            seconds=self._seconds(),
            train_loss=train_loss,
            val_loss=scores.loss,
            psnr=scores.psnr,
            ssim=scores.ssim,
            blurred_psnr=scores.blurred_psnr,
            learning_rate=self.plan.learning_rate(self.run.step - 1),
        )

    def _draw_curve(self) -> None:
        points = [CurvePoint(**point) for point in self.run.history]  # type: ignore[arg-type]
        title = f"{self.out.name}: PSNR on {len(self.validation)} validation pictures"
        picture = learning_curve(points, title, f"{self.data_kind} blur")
        with whole_file(self.out / CURVE) as partial:
            picture.save(partial, format="PNG")
        self.tracker.picture(picture, "learning_curve")

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _save(self, names: list[str] | None = None) -> None:
        """Hand the state over to be written."""
        self.saved = time.monotonic()
        self.run.seconds = self._seconds()
        for reading in self.readings.drain():
            self._read(reading)
        if self.world.writes:
            self.folder.save(self.run.state(), names or [])


def training_crops(
    data: Path | str, config: TrainConfig, patch_size: int | None = None
) -> CropFeed | PhotoCrops:
    """The crops of the split ``train``: of its pairs, or of its sharp pictures to be shaken."""
    pairs = open_pairs(data, "train", config.subset)
    size = patch_size or config.patch_size
    if config.shake is not None:
        return PhotoCrops(pairs, config.shake, size, config.crops_per_image)
    return CropFeed(
        DeblurDataset(
            pairs, patch_size=size, seed=config.seed, crops_per_image=config.crops_per_image
        )
    )


def validation_pairs(data: Path | str, manifest: Manifest) -> Pairs:
    """The pairs of the split that training watches."""
    return open_pairs(data, validation_split(manifest.splits), manifest.subset)


def validation_split(splits: Iterable[str]) -> str:
    """``val`` where a data set has one, else ``test``.

    GOPRO_Large has no ``val``; the field watches ``test`` there, and so do we.
    """
    return next(split for split in ("val", "test", "train") if split in set(splits))
