"""What a training will take, from a few real steps on this machine."""

import time
from dataclasses import dataclass
from pathlib import Path

from deblur.data.listing import list_data
from deblur.data.manifest import is_prepared, read_manifest
from deblur.data.pairs import open_pairs
from deblur.device import choose_numerics, peak_memory_gb
from deblur.images import to_float
from deblur.models.complexity import macs, parameters
from deblur.training.config import TrainConfig
from deblur.training.plan import Plan, make_plan
from deblur.training.run import TrainingRun
from deblur.training.train import training_crops, validation_split
from deblur.training.trouble import memory_advice

_STEPS = 4
_ENOUGH_SECONDS = 30.0


@dataclass(frozen=True)
class Estimate:
    """What a configuration asks for on this machine.

    Attributes:
        plan: phases, crops and steps.
        parameters: of the network, and ``gmacs``, 1e9 multiply-accumulates for one crop.
        device, precision: what it was measured on.
        training_seconds: of all steps, without waiting for data; ``validation_seconds``, of all
            validations.
        memory_gb: of this process or the GPU at the peak of these steps, in 1e9 bytes.
    """

    plan: Plan
    parameters: int
    gmacs: float
    device: str
    precision: str
    training_seconds: float
    validation_seconds: float
    memory_gb: float

    @property
    def crops_per_s(self) -> float:
        return self.plan.total_crops / self.training_seconds


def estimate(config: TrainConfig, data: Path | str, device: str | None = None) -> Estimate:
    """Time and memory of a training that is not started.

    The steps are real ones on the first crops of the data; their weights are thrown away.

    Raises:
        DataError: the data cannot be used.
        DeblurError: a batch does not fit into memory.
    """
    numerics = choose_numerics(config.precision, device)
    sources = training_crops(data, config)
    plan = make_plan(config, lambda size: len(sources[size]))
    run = TrainingRun(config, "", numerics)
    seconds = 0.0
    for phase in plan.phases:
        source = sources[phase.patch_size]
        order = next(iter(phase.batches(config.seed, phase.epochs.start)))
        batch = source.__getitems__(order)
        times: list[float] = []
        with memory_advice(phase, 1):
            while len(times) < _STEPS and sum(times) < _ENOUGH_SECONDS:
                started = time.perf_counter()
                run.train_step(batch, config.learning_rate).tolist()
                times.append(time.perf_counter() - started)
        # The first step of a shape is slower: memory is got, kernels are chosen.
        seconds += min(times) * phase.steps
    return Estimate(
        plan=plan,
        parameters=parameters(run.model),
        gmacs=macs(run.model, config.patch_size) / 1e9,
        device=str(numerics.device),
        precision=numerics.name,
        training_seconds=seconds,
        validation_seconds=_validation_seconds(config, run, data),
        memory_gb=peak_memory_gb(numerics.device),
    )


def _validation_seconds(config: TrainConfig, run: TrainingRun, data: Path | str) -> float:
    """All validations, by the time of one picture."""
    prepared = is_prepared(data)
    splits = read_manifest(Path(data)).splits if prepared else list_data(data, config.subset).splits
    pairs = open_pairs(data, validation_split(splits), config.subset)
    blurred, _ = pairs.read(0)
    started = time.perf_counter()
    run.predictor()(to_float(blurred))
    per_picture = time.perf_counter() - started
    validations = -(-config.num_epochs // config.validate_every)
    return per_picture * len(pairs) * validations
