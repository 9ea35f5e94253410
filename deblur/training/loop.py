"""The training loop."""

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from PIL import Image

from deblur.atomic import whole_file
from deblur.data.feed import CropFeed, feed
from deblur.data.pairs import Pairs
from deblur.data.photo_crops import PhotoCrops
from deblur.device import peak_memory_gb
from deblur.errors import StoppedError
from deblur.evaluation import Scores, evaluate, interleaved
from deblur.images import to_float, to_uint8
from deblur.progress import Advance, Progress
from deblur.sheet import SheetRow, before_after_sheet
from deblur.stopping import StopRequest
from deblur.tracking import Tracker
from deblur.training.compiling import compile_where_it_pays
from deblur.training.curve import CurvePoint, learning_curve
from deblur.training.folder import BEST, CheckpointFolder, epoch_name
from deblur.training.plan import Plan
from deblur.training.readings import Meter, Reading, Readings
from deblur.training.run import Batch, TrainingRun, loss_share
from deblur.training.trouble import DivergedError, diverged, memory_advice, save_bad_batch

log = logging.getLogger(__name__)

CURVE = "learning_curve.png"


@dataclass
class Training:
    """A run on its way through the plan: reading, stepping, validating, saving, stopping.

    Attributes:
        run: the network in training.
        plan: its epochs and steps.
        sources: what crops are read from, by their side in pixels.
        validation: the pictures to watch, ``data_kind``: how they were blurred.
        folder: where checkpoints go.
        tracker, progress: receive what happens; those of other processes than the first are deaf.
        stop: whether a signal asked for the end.
    """

    run: TrainingRun
    plan: Plan
    sources: Mapping[int, CropFeed | PhotoCrops]
    validation: Pairs
    data_kind: str
    folder: CheckpointFolder
    tracker: Tracker
    progress: Progress
    stop: StopRequest

    def __post_init__(self) -> None:
        self.config, self.world, self.out = self.run.config, self.run.world, self.folder.path
        self.readings = Readings(self.run.numerics.device)
        self.meter = Meter()
        self.speed: dict[str, float] = {}
        self.note = ""
        self.seconds_before = self.run.seconds
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
