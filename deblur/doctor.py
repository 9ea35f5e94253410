"""``deblur doctor``: what this machine has, and the command that mends each fault."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from deblur.cpus import usable_cpus

Verdict = Literal["ok", "note", "fault"]

#: The CUDA release that the pinned torch is built for, as PyTorch's own index names it.
CUDA_TAG = "cu132"
_SYMBOLS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fault": "[bold red]fault[/]"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``mend`` is what to run where ``verdict`` is not ok."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


@dataclass(frozen=True)
class TorchFacts:
    """What was found out about torch and the GPU; versions are ``None`` where not installed.

    An ``…_error`` is the first line of what importing it raised.
    """

    torch: str | None
    cuda_build: str | None
    cuda_available: bool
    torchvision: str | None
    torchvision_error: str | None
    torch_error: str | None = field(default=None, kw_only=True)
    gpu: str | None
    driver: str | None


def examine() -> list[Check]:
    """Look at Python, torch, GPU, onnxruntime and its plugin, the CPU, the disk and the stores."""
    return [
        check_python(sys.version_info[:3]),
        *check_torch(torch_facts(), platform.system()),
        check_onnxruntime(),
        check_openvino(),
        check_cpu(),
        check_disk(),
        check_mlflow(),
        check_prefect(),
    ]


def show(checks: list[Check]) -> int:
    """Print the checks as a table and the mending commands below; the number of faults."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("", "what", "found", title="deblur doctor")
    for check in checks:
        table.add_row(_SYMBOLS[check.verdict], check.name, escape(check.found))
    console.print(table)
    for check in checks:
        if check.mend:
            console.print(f"\n{_SYMBOLS[check.verdict]} {check.name}: {escape(check.found)}")
            # Commands are printed plain, so that they can be copied.
            console.print(check.mend, markup=False, highlight=False, soft_wrap=True)
    faults = sum(check.verdict == "fault" for check in checks)
    console.print(f"\n{faults or 'no'} fault{'' if faults == 1 else 's'}")
    return faults


def check_python(version: tuple[int, int, int]) -> Check:
    found = ".".join(map(str, version))
    if version >= (3, 11, 0):
        return Check("Python", "ok", found)
    return Check("Python", "fault", found, "Install Python 3.11 or later, then make a new .venv.")


def check_torch(facts: TorchFacts, system: str) -> list[Check]:
    """Judge torch and the GPU.

    Args:
        facts: what was found.
        system: ``platform.system()``; the commands differ between Windows and the rest.
    """
    gpu = f"{facts.gpu}, driver {facts.driver}" if facts.gpu else "no NVIDIA GPU found"
    if facts.torch is None:
        mend = "Needed for training only, not for serving:\n  " + _pip(system, "-e '.[train]'")
        return [Check("torch", "note", "not installed", mend), Check("GPU", "ok", gpu)]

    if facts.torch_error:
        found = f"{facts.torch} cannot be imported: {facts.torch_error}"
        return [Check("torch", "fault", found, _cuda_torch(system)), Check("GPU", "ok", gpu)]

    checks = []
    build = f"CUDA {facts.cuda_build}" if facts.cuda_build else "CPU only"
    found = f"{facts.torch} ({build})"
    if facts.cuda_build is None and facts.gpu:
        checks.append(
            Check("torch", "fault", f"{found} on a machine with {facts.gpu}", _cuda_torch(system))
        )
    elif facts.cuda_build is None:
        checks.append(Check("torch", "ok", f"{found}; trains on the CPU"))
    elif facts.gpu and not facts.cuda_available:
        checks.append(
            Check(
                "torch", "fault", f"{found} cannot use {facts.gpu} with driver {facts.driver}",
                f"The driver is too old for CUDA {facts.cuda_build}, or the GPU is hidden: update "
                "the NVIDIA driver, look at  nvidia-smi  and at CUDA_VISIBLE_DEVICES "
                f"({os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}).",
            )
        )  # fmt: skip
    else:
        where = "the GPU" if facts.cuda_available else "the CPU, as there is no GPU"
        checks.append(Check("torch", "ok", f"{found}; trains on {where}"))

    checks.append(Check("GPU", "ok", gpu))
    if facts.torchvision_error:
        checks.append(
            Check(
                "torchvision", "fault", f"{facts.torchvision}: {facts.torchvision_error}",
                "torch and torchvision come from different builds. Install both from one place:\n"
                + _cuda_torch(system),
            )
        )  # fmt: skip
    elif facts.torchvision:
        checks.append(Check("torchvision", "ok", facts.torchvision))
    return checks


def torch_facts() -> TorchFacts:
    """Find out about torch and the GPU without raising."""
    gpu, driver = _nvidia_smi()
    if util.find_spec("torch") is None:
        return TorchFacts(None, None, False, None, None, gpu, driver)
    error = _import_error("torch")
    if error:
        version = metadata.version("torch")
        return TorchFacts(version, None, False, None, None, gpu, driver, torch_error=error)
    import torch

    vision, vision_error = None, None
    if util.find_spec("torchvision") is not None:
        vision = metadata.version("torchvision")
        vision_error = _import_error("torchvision")
    return TorchFacts(
        torch.__version__, torch.version.cuda, torch.cuda.is_available(), vision, vision_error,
        gpu, driver,
    )  # fmt: skip


def _import_error(module: str) -> str | None:
    """The first line of what importing ``module`` raises: missing libraries, wrong pairings."""
    try:
        importlib.import_module(module)
    except Exception as error:  # RuntimeError, ImportError or OSError, by build and system
        return (str(error) or type(error).__name__).splitlines()[0]
    return None


def check_onnxruntime() -> Check:
    if util.find_spec("onnxruntime") is None:
        mend = "  " + _pip(platform.system(), "onnxruntime")
        return Check("onnxruntime", "fault", "not installed", mend)
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    found = f"{onnxruntime.__version__}: {', '.join(providers)}"
    if "CPUExecutionProvider" in providers:
        return Check("onnxruntime", "ok", found)
    return Check(
        "onnxruntime", "fault", found,
        "The CPU provider is missing: two onnxruntime packages lie over each other. Mend with\n"
        "  pip uninstall -y onnxruntime onnxruntime-gpu\n"
        "  pip install -c constraints.txt onnxruntime",
    )  # fmt: skip


def check_openvino() -> Check:
    """OpenVINO's plugin for onnxruntime. Without it everything works, but slower on many CPUs."""
    if util.find_spec("onnxruntime_ep_openvino") is None:
        found = "not installed: fp32 and int8 only"
        if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "darwin":
            return Check("OpenVINO", "ok", f"{found}; there is none for this machine")
        mend = "Serves faster on many CPUs; then run  deblur tune:\n  "
        return Check("OpenVINO", "note", found, mend + _pip(platform.system(), "'.[openvino]'"))
    if util.find_spec("onnxruntime") is None:
        return Check("OpenVINO", "ok", "installed; needs onnxruntime")
    from deblur.errors import SetupError
    from deblur.serving.openvino import computes_bf16, openvino_version

    try:
        precisions = "fp32, bf16, int8" if computes_bf16() else "fp32, int8; no bf16 on this CPU"
        return Check("OpenVINO", "ok", f"plugin {openvino_version()}: {precisions}")
    except SetupError as error:
        mend = "  " + _pip(platform.system(), "--force-reinstall '.[openvino]'")
        return Check("OpenVINO", "note", str(error), mend)


def check_cpu() -> Check:
    usable, present = usable_cpus(), os.cpu_count() or 1
    limited = f" of {present} (affinity or cgroup quota)" if usable < present else ""
    return Check("CPU", "ok", f"{platform.machine()}, {usable} usable{limited}")


def check_disk(needed_gb: float = 2.0) -> Check:
    free = shutil.disk_usage(".").free / 1e9
    found = f"{free:.1f} GB free in {Path.cwd()}"
    if free >= needed_gb:
        return Check("disk", "ok", found)
    return Check("disk", "fault", found, f"Free at least {needed_gb:g} GB: runs/ and mlruns/ grow.")


def check_mlflow() -> Check:
    address = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    mend = "Start it with  mlflow server  , or unset MLFLOW_TRACKING_URI to use a local file."
    return _check_store("MLflow store", address, "/health", mend)


def check_prefect() -> Check:
    address = os.environ.get("PREFECT_API_URL", "")
    mend = "Start it with  prefect server start  , or unset PREFECT_API_URL for a private server."
    return _check_store("Prefect server", address, "/health", mend)


def _check_store(name: str, address: str, path: str, mend: str) -> Check:
    if not address.startswith(("http://", "https://")):
        return Check(name, "ok", address or "none set: every flow starts a private one")
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address.rstrip("/") + path, timeout=5):
            return Check(name, "ok", f"{address} answers")
    except urllib.error.HTTPError as error:
        return Check(name, "fault", f"{address} answers with {error.code} {error.reason}", mend)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Check(name, "fault", f"{address} does not answer ({error})", mend)


def _nvidia_smi(
    run: Callable[..., subprocess.CompletedProcess] = subprocess.run,
) -> tuple[str | None, str | None]:
    """Name and driver of the first GPU, asked of the driver's own tool, not of torch."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, None
    name, _, driver = done.stdout.strip().partition("\n")[0].partition(",")
    return (name.strip(), driver.strip()) if name else (None, None)


def _pip(system: str, what: str) -> str:
    quoted = what.replace("'", '"') if system == "Windows" else what
    return f"pip install -c constraints.txt {quoted}"


def _cuda_torch(system: str) -> str:
    """The commands that put a CUDA build of torch in place of a CPU build."""
    if system == "Windows":
        # On Windows the package index has CPU builds only; PyTorch's own has the CUDA ones.
        return (
            "In PowerShell:\n"
            "  pip uninstall -y torch torchvision\n"
            f"  pip install torch torchvision --index-url https://download.pytorch.org/whl/{CUDA_TAG}\n"
            '  python -c "import torch; print(torch.__version__, torch.cuda.is_available())"'
        )
    return (
        "  pip uninstall -y torch torchvision\n"
        "  pip install -c constraints.txt torch torchvision\n"
        "  python -c 'import torch; print(torch.__version__, torch.cuda.is_available())'"
    )
