"""Which device and which precision to train in, and the memory that it takes."""

import sys
from dataclasses import dataclass

import torch

from deblur.errors import ConfigError
from deblur.training.config import Precision


@dataclass(frozen=True)
class Numerics:
    """A device and the type that its matrix products run in."""

    device: torch.device
    dtype: torch.dtype

    @property
    def mixed(self) -> bool:
        return self.dtype != torch.float32

    @property
    def scaled(self) -> bool:
        """fp16 gradients underflow without loss scaling."""
        return self.dtype == torch.float16

    def autocast(self) -> torch.autocast:
        """Mixed precision for the block; a no-op in float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.mixed)

    @property
    def name(self) -> str:
        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]


def choose_numerics(precision: Precision = "auto", device: str | None = None) -> Numerics:
    """The GPU if there is one, else the CPU; bf16 where the hardware computes it.

    Args:
        precision: ``auto``: bf16 on GPUs from Ampere on and on CPUs with AVX512-BF16, fp16
            with loss scaling on older GPUs, fp32 on other CPUs.
        device: a torch device name instead of the automatic choice.

    Raises:
        ConfigError: fp16 was asked for on a CPU.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if precision == "fp16" and chosen.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU: use bf16, fp32 or auto on a CPU")
    if precision == "auto":
        return Numerics(chosen, _fast_dtype(chosen))
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Numerics(chosen, dtypes[precision])


def _fast_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if ampere else torch.float16
    # Without these instructions bf16 on a CPU is emulated, several times slower than fp32.
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def peak_memory_gb(device: torch.device) -> float:
    """Most memory in use so far, in GB (1e9 bytes): of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
