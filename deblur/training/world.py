"""The processes that train together: one, or as many as torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from deblur.errors import ConfigError

T = TypeVar("T")

#: The first process may validate and prepare a large data set while the others wait.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class World:
    """This process's place among those that train together.

    Attributes:
        rank: number of this process; 0 is the one that writes.
        size: how many there are.
        local_rank: its number on its machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints, curves and progress."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def device(self) -> str | None:
        """The GPU of this process; ``None`` leaves the choice to ``choose_numerics``."""
        return f"cuda:{self.local_rank}" if not self.alone and torch.cuda.is_available() else None

    def agree(self, *wishes: int) -> list[int]:
        """The largest of each wish over all processes: the same answer everywhere."""
        if self.alone:
            return list(wishes)
        together = torch.tensor(wishes)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return [int(wish) for wish in together]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all processes, in place, on the device of ``values``."""
        if not self.alone:
            dist.all_reduce(values)
            values /= self.size
        return values

    def of_first(self, value: T) -> T:
        """What the process of rank 0 holds."""
        if self.alone:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What all hold, in the order of their ranks."""
        if self.alone:
            return [value]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value)
        return boxes

    def wait(self) -> None:
        """Go on when all are here."""
        self.agree(0)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 goes through the block while the others wait; then they do."""
        if not self.writes:
            self.wait()
        yield
        if self.writes:
            self.wait()


@contextmanager
def joined_world() -> Iterator[World]:
    """The processes that torchrun started, or this one alone.

    torchrun and the Kubernetes training operators say it in the environment: ``WORLD_SIZE``,
    ``RANK``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        ConfigError: the environment speaks of several processes, but incompletely.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    missing = [k for k in ("RANK", "MASTER_ADDR", "MASTER_PORT") if k not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start with  torchrun "
            "--nproc_per_node N -m deblur train ..., or unset WORLD_SIZE"
        )
    rank = int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count()
    if gpus:
        if local_rank >= gpus:
            raise ConfigError(
                f"process {local_rank} of this machine finds {gpus} GPUs: start as many processes "
                f"as there are GPUs (torchrun --nproc_per_node {gpus})"
            )
        torch.cuda.set_device(local_rank)
    # Gloo carries what is said on the CPU, so that agreeing on a stop never waits for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_PATIENCE)
    try:
        yield World(rank, size, local_rank)
    finally:
        dist.destroy_process_group()
