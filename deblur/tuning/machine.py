"""What a measurement of speed belongs to: the machine and the versions."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from deblur.cpus import usable_cpus

#: The sets that decide how fast a network runs, as Linux names them; of x86-64, then of ARM.
_DECISIVE = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where something was measured.

    Attributes:
        cpu: its name.
        instruction_sets: those that networks profit from; empty where the system does not tell.
        cpus: those that this process may use.
        system: as ``Linux x86_64``.
        versions: of the packages that run the network; what is not installed is missing.
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cpus: int
    system: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """The machine that this process runs on."""
    facts = _cpuinfo()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Machine(
        cpu=facts.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=tuple(name for name in _DECISIVE if name in flags),
        cpus=usable_cpus(),
        system=f"{platform.system()} {platform.machine()}",
        versions=_versions("deblur", "onnxruntime", "onnxruntime-ep-openvino", "numpy"),
    )


def _cpuinfo(file: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first CPU; elsewhere nothing."""
    if os.name != "posix":
        return {}
    try:
        first = file.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
