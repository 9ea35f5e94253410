"""The state of a training run: what a checkpoint holds, and the steps that change it."""

import logging
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deblur.data.feed import CropBatch, to_device
from deblur.data.pairs import Pairs
from deblur.data.synthesis.on_device import PhotoBatch, shake_batch
from deblur.device import Numerics
from deblur.errors import CheckpointError
from deblur.evaluation import Predict, Scores, evaluate
from deblur.images import to_float, to_uint8
from deblur.models import DeblurUNet
from deblur.models.inference import tiled_predictor
from deblur.progress import Progress
from deblur.sheet import SheetRow, before_after_sheet
from deblur.training.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from deblur.training.config import TrainConfig
from deblur.training.losses import CharbonnierLoss

log = logging.getLogger(__name__)


class TrainingRun:
    """A network in training.

    Args:
        config: what is trained.
        data_digest: digest of the data manifest.
        numerics: device and precision.
    """

    def __init__(self, config: TrainConfig, data_digest: str, numerics: Numerics) -> None:
        self.config = config
        self.data_digest = data_digest
        self.numerics = numerics
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = DeblurUNet(base_ch=config.base_ch, residual=config.residual)
        self.model = network.to(numerics.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
            if config.ema_decay
            else None
        )
        self.criterion = CharbonnierLoss(config.loss_eps)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.scaler = torch.amp.GradScaler(numerics.device.type, enabled=numerics.scaled)
        self.epoch = 0
        self.step = 0
        self.best_psnr = -math.inf
        self.stale = 0
        self.metrics: dict[str, float] = {}

    def train_step(self, batch: CropBatch | PhotoBatch, total_steps: int) -> Tensor:
        """One optimizer step on a batch; returns the loss, left on the device."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, total_steps)
        blurred, sharp = self._on_device(batch)
        with self.numerics.autocast():
            restored = self.model(blurred)
        loss = self.criterion(restored, sharp)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _on_device(self, batch: CropBatch | PhotoBatch) -> tuple[Tensor, Tensor]:
        """``(blurred, sharp)``: ``[N, 3, S, S]`` float32 in [-1, 1]."""
        if isinstance(batch, CropBatch):
            return to_device(batch, self.numerics.device)
        assert self.config.shake is not None
        return shake_batch(batch.to(self.numerics.device), self.config.shake)

    def predictor(self) -> Predict:
        """The network as it would be served: averaged weights if there are any, serving tiles."""
        model = self.model if self.ema is None else self.ema.module
        return tiled_predictor(model.eval(), self.numerics, self.config.tile, self.config.overlap)

    def validate(self, pairs: Pairs, progress: Progress) -> Scores:
        """Score whole pictures."""
        return evaluate(self.predictor(), pairs, progress, self.config.loss_eps, "validation")

    def sheet(self, pairs: Pairs, footer: str) -> Image.Image:
        """The first and the middle validation picture before and after."""
        predict, rows = self.predictor(), []
        for index in sorted({0, len(pairs) // 2}):
            blurred, sharp = pairs.read(index)
            title = f"{pairs.scenes[index]}/{pairs.names[index]}"
            rows.append(SheetRow(title, blurred, to_uint8(predict(to_float(blurred))), sharp))
        return before_after_sheet(rows, footer)

    def remember(self, scores: Scores) -> bool:
        """Keep a validation's figures; whether it is the best so far."""
        self.metrics = {
            "psnr": scores.psnr,
            "ssim": scores.ssim,
            "val_loss": scores.loss,
            "blurred_psnr": scores.blurred_psnr,
        }
        improved = scores.psnr > self.best_psnr
        self.stale = 0 if improved else self.stale + 1
        self.best_psnr = max(self.best_psnr, scores.psnr)
        return improved

    def out_of_patience(self) -> bool:
        """Whether ``patience`` validations in a row brought no gain; never if it is 0."""
        return 0 < self.config.patience <= self.stale

    def save(self, out: Path, improved: bool) -> None:
        """Write the checkpoints that are due after an epoch."""
        checkpoint = Checkpoint(
            config=self.config.model_dump(mode="json"),
            data_digest=self.data_digest,
            epoch=self.epoch,
            step=self.step,
            model=self.model.state_dict(),
            ema=self.ema.module.state_dict() if self.ema is not None else None,
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict() if self.numerics.scaled else None,
            best_psnr=self.best_psnr,
            stale=self.stale,
            metrics=self.metrics,
        )
        # last.pt is written last: if it is there, the others of its epoch are too.
        if improved:
            save_checkpoint(out / BEST, checkpoint)
        if self.epoch % self.config.checkpoint_every == 0:
            save_checkpoint(out / f"epoch_{self.epoch:04d}.pt", checkpoint)
        save_checkpoint(out / LAST, checkpoint)

    def resume(self, path: Path) -> None:
        """Take over the state of ``path`` if it exists.

        Raises:
            CheckpointError: it is damaged, or of another configuration or data set.
        """
        if not path.exists():
            return
        kept = load_checkpoint(path)
        theirs = kept.train_config()
        if theirs.digest() != self.config.digest():
            changed = [
                f"{key} was {getattr(theirs, key)!r}, is now {value!r}"
                for key, value in self.config
                if getattr(theirs, key) != value and key != "workers"
            ]
            raise CheckpointError(
                f"{path.parent} holds a run of another configuration ({'; '.join(changed)}): "
                "name another folder, or remove this one to start over"
            )
        if kept.data_digest != self.data_digest:
            raise CheckpointError(
                f"{path.parent} holds a run on other data (manifest {kept.data_digest[:12]}, now "
                f"{self.data_digest[:12]}): name another folder, or remove this one to start over"
            )
        load_weights(self.model, kept.model)
        if self.ema is not None and kept.ema is not None:
            load_weights(self.ema.module, kept.ema)
            self.ema.n_averaged.fill_(kept.step)
        self.optimizer.load_state_dict(kept.optimizer)
        if kept.scaler is not None and self.numerics.scaled:
            self.scaler.load_state_dict(kept.scaler)
        self.epoch, self.step = kept.epoch, kept.step
        self.best_psnr, self.stale, self.metrics = kept.best_psnr, kept.stale, kept.metrics
        log.info("resumed %s after epoch %d, step %d", path, self.epoch, self.step)


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """The rate of a step (counted from 0): linear warm-up, then constant or a half cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + 0.5 * span * (1.0 + math.cos(math.pi * done))
