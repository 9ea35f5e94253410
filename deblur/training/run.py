"""The state of a training run, and the one step that changes it."""

import copy
import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deblur.data.feed import CropBatch, to_device
from deblur.data.synthesis.on_device import PhotoBatch, shake_batch
from deblur.device import Numerics
from deblur.evaluation import Predict
from deblur.models import build_network
from deblur.models.inference import tiled_predictor
from deblur.training.checkpoint import Checkpoint, load_weights
from deblur.training.config import TrainConfig
from deblur.training.losses import TrainingLoss
from deblur.training.world import World

log = logging.getLogger(__name__)

Batch = CropBatch | PhotoBatch


class TrainingRun:
    """A network in training. Making one seeds torch's generators.

    Args:
        config: what is trained.
        data_digest: digest of the data manifest.
        numerics: device and precision.
        world: the processes that train together.

    Attributes:
        model: the network with the raw weights, ``ema``: with averaged ones, if configured.
        epoch, step: epochs and steps done.
        history: a ``CurvePoint`` of each validation, as plain values.
        skipped, skipped_in_row: steps without a finite gradient, in all and latest.
        seconds: time spent training, in this process and those before.
    """

    def __init__(
        self, config: TrainConfig, data_digest: str, numerics: Numerics, world: World = World()
    ) -> None:
        self.config = config
        self.data_digest = data_digest
        self.numerics = numerics
        self.world = world
        torch.manual_seed(config.seed)
        network = build_network(config.architecture, config.base_ch, config.residual)
        self.model = network.to(numerics.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.model) if config.ema_decay else None
        self.criterion = TrainingLoss(config.loss_eps, config.fft_weight)
        # Fused: one kernel for all weights, and it can skip a step without asking the CPU.
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(numerics.device.type, enabled=numerics.scaled)
        self.compiled = False
        self.forward: nn.Module = self.model
        if not world.alone:
            ids = [numerics.device.index] if numerics.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.model, ids, gradient_as_bucket_view=True)
        self.epoch = 0
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=numerics.device)
        self.loss_count = torch.zeros((), dtype=torch.float64, device=numerics.device)
        self.best_psnr = -math.inf
        self.stale = 0
        self.history: list[dict[str, float]] = []
        self.skipped = 0
        self.skipped_in_row = 0
        self.seconds = 0.0

    def train_step(self, batch: Batch, rate: float, share: float = 1.0) -> Tensor:
        """One optimizer step.

        Nothing here waits for the device. Where loss or gradient are not finite, the optimizer
        leaves weights and moments as they are.

        Args:
            batch: this process's part of the batch.
            rate: the learning rate.
            share: weight of this part's mean loss, so that the mean over the processes is that of
                the whole batch; see ``loss_share``.

        Returns:
            ``[3]`` on the device: loss of the whole batch, gradient norm before clipping, and 1
            where the step was skipped.
        """
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        blurred, sharp = self._on_device(batch)
        with self.numerics.autocast():
            restored = self.forward(blurred)
        # A process without a part still takes its place in the sum of the gradients.
        loss = self.criterion(restored, sharp) * share if len(blurred) else 0.0 * restored.sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        # Of the averaged gradient, so every process finds the same and skips the same steps.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm or math.inf)
        loss = self.world.mean(loss.detach())
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        if not self.numerics.scaled:  # the scaler tells the optimizer itself
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            ours, averaged = list(self.model.parameters()), list(self.ema.parameters())
            with torch.no_grad():
                torch._foreach_lerp_(averaged, ours, 1.0 - self.config.ema_decay)
        self.loss_sum += torch.where(finite, loss, 0.0)
        self.loss_count += finite
        self.step += 1
        return torch.stack((loss.float(), norm.float(), (~finite).float()))

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(blurred, sharp)``: ``[N, 3, S, S]`` float32 in [-1, 1]."""
        if isinstance(batch, CropBatch):
            return to_device(batch, self.numerics.device)
        assert self.config.shake is not None
        return shake_batch(batch.to(self.numerics.device), self.config.shake)

    def predictor(self) -> Predict:
        """The network as it would be served: averaged weights if there are any, serving tiles."""
        model = self.model if self.ema is None else self.ema
        return tiled_predictor(model.eval(), self.numerics, self.config.tile, self.config.overlap)

    def epoch_loss(self) -> float:
        """Mean of the finite losses of the epoch under way; NaN if there was none."""
        return float(self.loss_sum / self.loss_count)

    def end_epoch(self) -> None:
        """Count the epoch as done."""
        self.loss_sum.zero_()
        self.loss_count.zero_()
        self.epoch += 1

    def remember(self, point: dict[str, float]) -> bool:
        """Keep a validation's figures; whether it is the best so far."""
        self.history.append(point)
        improved = point["psnr"] > self.best_psnr
        self.stale = 0 if improved else self.stale + 1
        self.best_psnr = max(self.best_psnr, point["psnr"])
        return improved

    def out_of_patience(self) -> bool:
        """Whether ``patience`` validations in a row brought no gain; never if it is 0."""
        return 0 < self.config.patience <= self.stale

    def state(self) -> Checkpoint:
        """A copy of everything, in the CPU's memory: training goes on while it is written."""
        rng = {"cpu": torch.get_rng_state()}
        if self.numerics.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.numerics.device)
        return Checkpoint(
            config=self.config.model_dump(mode="json"),
            data_digest=self.data_digest,
            epoch=self.epoch,
            step=self.step,
            loss_sum=float(self.loss_sum),
            loss_count=int(self.loss_count),
            model=_copied(self.model.state_dict()),
            ema=_copied(self.ema.state_dict()) if self.ema is not None else None,
            optimizer=_copied(self.optimizer.state_dict()),
            scaler=self.scaler.state_dict() if self.numerics.scaled else None,
            rng=rng,
            best_psnr=self.best_psnr,
            stale=self.stale,
            history=list(self.history),
            skipped=self.skipped,
            skipped_in_row=self.skipped_in_row,
            seconds=self.seconds,
            compiled=self.compiled,
        )

    def resume(self, kept: Checkpoint) -> None:
        """Take over the state of a checkpoint.

        Raises:
            CheckpointError: it is of another architecture.
        """
        load_weights(self.model, kept.model)
        if self.ema is not None:
            load_weights(self.ema, kept.ema if kept.ema is not None else kept.model)
        self.optimizer.load_state_dict(kept.optimizer)
        if kept.scaler is not None and self.numerics.scaled:
            self.scaler.load_state_dict(kept.scaler)
        torch.set_rng_state(kept.rng["cpu"])
        if "cuda" in kept.rng and self.numerics.device.type == "cuda":
            torch.cuda.set_rng_state(kept.rng["cuda"], self.numerics.device)
        self.epoch, self.step = kept.epoch, kept.step
        self.loss_sum.fill_(kept.loss_sum)
        self.loss_count.fill_(kept.loss_count)
        self.best_psnr, self.stale, self.history = kept.best_psnr, kept.stale, list(kept.history)
        self.skipped, self.skipped_in_row = kept.skipped, kept.skipped_in_row
        self.seconds = kept.seconds
        self.compiled = kept.compiled

    def start_epoch_again(self, step: int) -> None:
        """Forget the part of an epoch that is done, and what was best: plan or data changed."""
        self.step = step
        self.loss_sum.zero_()
        self.loss_count.zero_()
        self.best_psnr, self.stale = -math.inf, 0


def loss_share(crops: int, world: World) -> float:
    """Weight of a process's mean loss in a batch of ``crops``.

    The gradients are averaged over the processes, and their parts may differ by a crop: each part
    counts as much as it has crops.
    """
    own = len(range(world.rank, crops, world.size))
    return own * world.size / crops


def differences(kept: Checkpoint, config: TrainConfig, data_digest: str) -> list[str]:
    """What a run that is to go on was started with and is not given now."""
    ours, theirs = config.decisive(), kept.train_config().decisive()
    changed = [
        f"{key} was {theirs[key]!r}, is now {value!r}"
        for key, value in ours.items()
        if theirs[key] != value
    ]
    if kept.data_digest != data_digest:
        changed.append(
            f"the data was another (manifest {kept.data_digest[:12]}, now {data_digest[:12]})"
        )
    return changed


def _copied(tree: Any) -> Any:
    """A state dictionary with its tensors copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copied(value) for value in tree)
    return tree
