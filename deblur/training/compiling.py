"""``torch.compile`` where it measures faster than it costs, and eager mode where it does not."""

import copy
import logging
import time

import torch
from torch import nn

from deblur.device import Numerics
from deblur.training.plan import Plan
from deblur.training.run import TrainingRun

log = logging.getLogger(__name__)

#: The time saved in the rest of the training must be this many times the time of compiling.
_WORTH = 2.0
_TIMED_STEPS = 8


def compile_where_it_pays(run: TrainingRun, plan: Plan) -> None:
    """Compile the forward and backward pass of ``run``, if the configuration and a measurement say
    so; a run that was compiled before is compiled again, for the same rounding.

    On a CPU ``auto`` does not try: compiled steps of the U-Net took 1.1 to 1.5 times as long there
    (``docs/log.md``). If compiling fails, the training goes on without and says so.
    """
    mode, device = run.config.compile, run.numerics.device
    if mode == "off" or run.step >= plan.total_steps:
        return
    if mode == "auto" and device.type != "cuda" and not run.compiled:
        return
    wanted = run.compiled
    if not wanted:
        steps = plan.total_steps - run.step
        wanted = run.world.of_first(_pays(run, plan, steps, always=mode == "on"))
    if wanted:
        # Two batch sizes a phase, the last of an epoch being smaller; each is compiled once.
        run.forward = torch.compile(run.forward, dynamic=False)  # type: ignore[assignment]
        run.compiled = True


def _pays(run: TrainingRun, plan: Plan, steps: int, always: bool) -> bool:
    phase = plan.phase_of(run.epoch)
    shape = (max(1, phase.batch_size // run.world.size), 3, phase.patch_size, phase.patch_size)
    network = copy.deepcopy(run.model)
    try:
        eager, _ = step_time(network, run.numerics, shape)
        compiled, first = step_time(torch.compile(network, dynamic=False), run.numerics, shape)  # type: ignore[arg-type]
    except Exception as error:  # the compiler's own errors have no common class
        log.warning(
            "torch.compile does not work here, training goes on without it: %s",
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
        )
        return False
    saved = (eager - compiled) * steps
    log.info(
        "torch.compile: %.1f ms a step instead of %.1f, compiled in %.0f s, %.0f s saved in the "
        "%d steps to go", 1e3 * compiled, 1e3 * eager, first, saved, steps,
    )  # fmt: skip
    return always or saved > _WORTH * first


def step_time(
    network: nn.Module, numerics: Numerics, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Seconds of a forward and backward pass, the best of a few, and of the very first.

    Args:
        network: takes and gives ``shape``.
        numerics: device and precision.
        shape: ``[B, 3, H, W]``.
    """
    pixels = torch.zeros(shape, device=numerics.device).to(memory_format=torch.channels_last)
    times = []
    for _ in range(_TIMED_STEPS):
        started = time.perf_counter()
        with numerics.autocast():
            loss = network(pixels).float().abs().mean()
        loss.backward()
        if numerics.device.type == "cuda":
            torch.cuda.synchronize(numerics.device)
        network.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - started)
    return min(times[1:]), times[0]
