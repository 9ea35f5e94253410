"""The course of a training as pure functions of the step: epochs, batches, learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from deblur.data.crops import EpochBatches
from deblur.training.config import TrainConfig
from deblur.training.world import World


@dataclass(frozen=True)
class Phase:
    """Epochs that are alike.

    Attributes:
        epochs: their numbers, counted from 0.
        crops: crops in one of them.
        patch_size: side of the crops in pixels.
        batch_size: crops in a step, of all processes together.
    """

    epochs: range
    crops: int
    patch_size: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.crops // self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * len(self.epochs)

    def done_before(self, epoch: int) -> int:
        """How many of its epochs are done when an epoch begins."""
        return len(range(self.epochs.start, min(self.epochs.stop, epoch)))

    def batches(
        self, seed: int, epoch: int, start: int = 0, world: World = World()
    ) -> EpochBatches:
        """The batches from number ``start`` of an epoch to the end of the phase, or this process's
        parts of them.
        """
        epochs = range(epoch, self.epochs.stop)
        return EpochBatches(
            self.crops, self.batch_size, seed, epochs, world.rank, world.size, start
        )


@dataclass(frozen=True)
class Plan:
    """All phases of a training in their order."""

    config: TrainConfig
    phases: tuple[Phase, ...]

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def total_crops(self) -> int:
        return sum(phase.crops * len(phase.epochs) for phase in self.phases)

    def phase_of(self, epoch: int) -> Phase:
        """The phase that an epoch belongs to."""
        return next(phase for phase in self.phases if epoch in phase.epochs)

    def steps_before(self, epoch: int) -> int:
        """Steps done when an epoch begins."""
        return sum(phase.steps_per_epoch * phase.done_before(epoch) for phase in self.phases)

    def crops_before(self, epoch: int) -> int:
        """Crops seen when an epoch begins."""
        return sum(phase.crops * phase.done_before(epoch) for phase in self.phases)

    def epoch_of(self, step: int) -> int:
        """The epoch that a step (counted from 0) belongs to."""
        epochs = reversed(range(self.config.num_epochs))
        return next(epoch for epoch in epochs if self.steps_before(epoch) <= step)

    def learning_rate(self, step: int) -> float:
        """The rate of a step (counted from 0): linear warm-up, then constant or a half cosine.

        Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.
        """
        config = self.config
        if step < config.warmup_steps:
            return config.learning_rate * (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return config.learning_rate
        done = (step - config.warmup_steps) / max(1, self.total_steps - config.warmup_steps)
        span = config.learning_rate - config.final_learning_rate
        return config.final_learning_rate + 0.5 * span * (1.0 + math.cos(math.pi * done))


def make_plan(config: TrainConfig, crops: Callable[[int], int]) -> Plan:
    """The phases of a configuration.

    Args:
        config: what is trained.
        crops: the number of crops in an epoch, by their side in pixels.
    """
    turn = config.num_epochs - config.last_epochs
    phases = [Phase(range(turn), crops(config.patch_size), config.patch_size, config.batch_size)]
    if config.last_epochs:
        size = config.last_patch_size
        phases.append(Phase(range(turn, config.num_epochs), crops(size), size, config.last_batch))
    return Plan(config, tuple(phase for phase in phases if phase.epochs))
