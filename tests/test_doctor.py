"""What the doctor says of hand-made machines, and of this one."""

import importlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType

import onnxruntime
import pytest

from deblur import doctor
from deblur.doctor import Check, TorchFacts, check_torch

CPU_TORCH = TorchFacts(
    torch="2.11.0+cpu", cuda_build=None, cuda_available=False, torchvision="0.26.0",
    torchvision_error=None, gpu=None, driver=None,
)  # fmt: skip
GPU_TORCH = replace(
    CPU_TORCH, torch="2.11.0", cuda_build="13.0", cuda_available=True,
    gpu="NVIDIA GeForce RTX 4070", driver="581.15",
)  # fmt: skip
CPU_TORCH_BESIDE_GPU = replace(CPU_TORCH, gpu=GPU_TORCH.gpu, driver=GPU_TORCH.driver)


def named(checks: list[Check], name: str) -> Check:
    (found,) = (check for check in checks if check.name == name)
    return found


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


# torch and the GPU


def test_cpu_torch_beside_a_gpu_is_mended_from_pytorchs_index_on_windows() -> None:
    check = named(check_torch(CPU_TORCH_BESIDE_GPU, "Windows"), "torch")
    assert check.verdict == "fault"
    assert check.found == "2.11.0+cpu (CPU only) on a machine with NVIDIA GeForce RTX 4070"
    assert lines(check.mend) == [
        "In PowerShell:",
        "pip uninstall -y torch torchvision",
        "pip install torch torchvision --index-url "
        f"https://download.pytorch.org/whl/{doctor.CUDA_TAG}",
        'python -c "import torch; print(torch.__version__, torch.cuda.is_available())"',
    ]


def test_cpu_torch_beside_a_gpu_is_mended_with_the_pinned_versions_on_linux() -> None:
    check = named(check_torch(CPU_TORCH_BESIDE_GPU, "Linux"), "torch")
    assert check.verdict == "fault"
    assert "pip uninstall -y torch torchvision" in lines(check.mend)
    assert "pip install -c constraints.txt torch torchvision" in lines(check.mend)
    assert "PowerShell" not in check.mend


def test_the_cuda_tag_is_that_of_the_torch_installed_here() -> None:
    build = doctor.torch_facts().cuda_build
    if build is None:
        pytest.skip("torch is a CPU build here")
    assert "cu" + build.replace(".", "") == doctor.CUDA_TAG


def test_a_driver_too_old_is_a_fault_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    facts = replace(GPU_TORCH, cuda_available=False, driver="450.80")
    check = named(check_torch(facts, "Linux"), "torch")
    assert check.verdict == "fault"
    assert "2.11.0 (CUDA 13.0) cannot use NVIDIA GeForce RTX 4070" in check.found
    assert "450.80" in check.found
    assert "too old for CUDA 13.0" in check.mend
    assert "update the NVIDIA driver" in check.mend
    assert "CUDA_VISIBLE_DEVICES (3)" in check.mend


@pytest.mark.parametrize(
    ("facts", "torch", "gpu"),
    [
        (CPU_TORCH, "2.11.0+cpu (CPU only); trains on the CPU", "no NVIDIA GPU found"),
        (
            replace(GPU_TORCH, cuda_available=False, gpu=None, driver=None),
            "2.11.0 (CUDA 13.0); trains on the CPU, as there is no GPU",
            "no NVIDIA GPU found",
        ),
        (
            GPU_TORCH,
            "2.11.0 (CUDA 13.0); trains on the GPU",
            "NVIDIA GeForce RTX 4070, driver 581.15",
        ),
    ],
)
def test_a_matching_torch_is_ok_with_and_without_a_gpu(
    facts: TorchFacts, torch: str, gpu: str
) -> None:
    checks = check_torch(facts, "Linux")
    assert checks == [
        Check("torch", "ok", torch),
        Check("GPU", "ok", gpu),
        Check("torchvision", "ok", "0.26.0"),
    ]


@pytest.mark.parametrize(
    ("system", "command"),
    [
        ("Linux", "pip install -c constraints.txt -e '.[train]'"),
        ("Windows", 'pip install -c constraints.txt -e ".[train]"'),
    ],
)
def test_missing_torch_is_a_note_as_serving_needs_none(system: str, command: str) -> None:
    nothing = TorchFacts(None, None, False, None, None, None, None)
    checks = check_torch(nothing, system)
    assert named(checks, "torch").verdict == "note"
    assert named(checks, "torch").found == "not installed"
    assert command in lines(named(checks, "torch").mend)
    assert named(checks, "GPU").verdict == "ok"


@pytest.mark.parametrize(
    ("system", "command"),
    [
        ("Linux", "pip install -c constraints.txt torch torchvision"),
        ("Windows", "pip install torch torchvision --index-url https://download.pytorch.org"),
    ],
)
def test_torchvision_of_another_build_is_a_fault(system: str, command: str) -> None:
    facts = replace(GPU_TORCH, torchvision_error="operator torchvision::nms does not exist")
    checks = check_torch(facts, system)
    check = named(checks, "torchvision")
    assert check.verdict == "fault"
    assert check.found == "0.26.0: operator torchvision::nms does not exist"
    assert check.mend.startswith("torch and torchvision come from different builds.")
    assert command in check.mend
    assert named(checks, "torch").verdict == "ok"


def test_a_torchvision_that_cannot_be_imported_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = importlib.import_module

    def broken(name: str, package: str | None = None) -> ModuleType:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand a long trace")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert doctor.torch_facts().torchvision_error == "operator torchvision::nms does not exist"


def smi(answer: str) -> Callable[..., subprocess.CompletedProcess]:
    return lambda *args, **kwargs: subprocess.CompletedProcess(args, 0, stdout=answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("NVIDIA H200, 580.82\n", ("NVIDIA H200", "580.82")),
        ("NVIDIA H200, 580.82\nNVIDIA T4, 580.82\n", ("NVIDIA H200", "580.82")),
        ("\n", (None, None)),
    ],
)
def test_the_first_gpu_is_read_from_nvidia_smi(
    answer: str, expected: tuple[str | None, str | None]
) -> None:
    assert doctor._nvidia_smi(smi(answer)) == expected


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.CalledProcessError(9, "nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 20),
    ],
)
def test_a_failing_nvidia_smi_means_no_gpu(error: Exception) -> None:
    def run(*args: object, **kwargs: object) -> subprocess.CompletedProcess:
        raise error

    assert doctor._nvidia_smi(run) == (None, None)


# Python, onnxruntime, CPU and disk


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 10, 14), "fault"), ((2, 7, 18), "fault"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")],
)
def test_python_older_than_3_11_is_a_fault(version: tuple[int, int, int], verdict: str) -> None:
    check = doctor.check_python(version)
    assert check.verdict == verdict
    assert check.found == ".".join(map(str, version))
    assert ("Install Python 3.11 or later" in check.mend) == (verdict == "fault")


def test_onnxruntime_without_its_cpu_provider_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    check = doctor.check_onnxruntime()
    assert check.verdict == "fault"
    assert check.found == f"{onnxruntime.__version__}: CUDAExecutionProvider"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in lines(check.mend)
    assert "pip install -c constraints.txt onnxruntime" in lines(check.mend)


@pytest.mark.parametrize(
    ("usable", "found"), [(2, "2 usable of 8 (affinity or cgroup quota)"), (8, "8 usable")]
)
def test_a_cpu_limit_is_told(monkeypatch: pytest.MonkeyPatch, usable: int, found: str) -> None:
    monkeypatch.setattr("deblur.doctor.usable_cpus", lambda: usable)
    monkeypatch.setattr("deblur.doctor.os.cpu_count", lambda: 8)
    assert doctor.check_cpu().verdict == "ok"
    assert doctor.check_cpu().found.endswith(f", {found}")


def test_a_full_disk_is_a_fault() -> None:
    assert doctor.check_disk(0.0).verdict == "ok"
    check = doctor.check_disk(1e9)
    assert check.verdict == "fault"
    assert "GB free in" in check.found
    assert "Free at least 1e+09 GB" in check.mend


# The stores

STORES = [
    ("MLFLOW_TRACKING_URI", doctor.check_mlflow, "mlflow server", "sqlite:///mlflow.db"),
    ("PREFECT_API_URL", doctor.check_prefect, "prefect server start", "none set"),
]


@pytest.mark.parametrize(("variable", "check", "command", "default"), STORES)
def test_a_store_that_nobody_listens_on_is_a_fault_with_its_address(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    check: Callable[[], Check],
    command: str,
    default: str,
) -> None:
    with socket.socket() as taken:
        # Bound but not listening: connections are refused, and nobody else gets the port.
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv(variable, address)
        found = check()
    assert found.verdict == "fault"
    assert found.found.startswith(f"{address} does not answer (")
    assert command in found.mend
    assert f"unset {variable}" in found.mend


@pytest.mark.parametrize(("variable", "check", "command", "default"), STORES)
def test_no_address_is_ok(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    check: Callable[[], Check],
    command: str,
    default: str,
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert check().verdict == "ok"
    assert check().found.startswith(default)


@contextmanager
def health_server(answer: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that sends ``answer`` to one request; its address and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        thread.join(timeout=10)
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "verdict", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "ok", "answers"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "fault", "503"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "fault", "SSH-2.0"),
    ],
    ids=["well", "busy", "another program"],
)
def test_a_store_is_asked_for_its_health(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, verdict: str, told: str
) -> None:
    with health_server(answer) as (address, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")
        check = doctor.check_mlflow()
    assert asked == ["/health"]
    assert check.verdict == verdict
    assert check.found.startswith(address)
    assert told in check.found


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "http://[::1", "http://"])
def test_an_address_that_is_none_is_a_fault_and_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    check = doctor.check_prefect()
    assert check.verdict == "fault"
    assert check.found.startswith(f"{address} does not answer")


# The whole


def test_show_returns_the_faults_and_prints_the_mending_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "pip install torch --index-url https://download.pytorch.org/whl/" + "x" * 120
    checks = [
        Check("Python", "ok", "3.11.9"),
        Check("torch", "fault", "2.11.0 [cpu]", f"In PowerShell:\n  {long}"),
        Check("GPU", "note", "hidden", "look at [nvidia-smi]"),
        Check("disk", "fault", "0.1 GB", "Free some."),
    ]
    assert doctor.show(checks) == 2
    printed = capsys.readouterr().out
    assert f"  {long}" in printed.splitlines()  # in one line, so that it can be copied
    assert "look at [nvidia-smi]" in printed
    assert printed.count("2.11.0 [cpu]") == 2  # in the table and above its commands
    assert "3.11.9" in printed
    assert printed.rstrip().endswith("2 faults")


def test_show_without_faults_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.show([Check("Python", "ok", "3.11.9"), Check("torch", "note", "none")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("no faults")


def test_this_machine_is_examined_without_a_fault_in_what_the_tests_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    checks = doctor.examine()
    assert [check.name for check in checks if check.name != "torchvision"] == [
        "Python", "torch", "GPU", "onnxruntime", "OpenVINO", "CPU", "disk", "MLflow store",
        "Prefect server",
    ]  # fmt: skip
    needed = [c for c in checks if c.name in ("Python", "torch", "torchvision", "onnxruntime")]
    assert [check for check in needed if check.verdict == "fault"] == []
    assert named(checks, "onnxruntime").found.startswith(onnxruntime.__version__)


def test_a_torch_that_cannot_be_imported_is_a_fault_with_the_way_to_mend_it() -> None:
    broken = replace(CPU_TORCH, torch_error="DLL load failed while importing _C")
    check = named(doctor.check_torch(broken, "Windows"), "torch")
    assert check.verdict == "fault"
    assert check.found == "2.11.0+cpu cannot be imported: DLL load failed while importing _C"
    assert "pip uninstall -y torch torchvision" in lines(check.mend)
