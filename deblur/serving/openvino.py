"""Intel's OpenVINO as a plugin of onnxruntime: found, registered once a process, and asked what it
can compute.

Nothing is imported before a setting asks for it: the plugin brings 100 MB of libraries, and exists
for x86-64 on Linux and Windows alone.
"""

import importlib
import json
from functools import cache
from threading import Lock
from typing import Any, Literal

import onnxruntime

from deblur.errors import SetupError

_PACKAGE = "onnxruntime_ep_openvino"
_INSTALL = "install it with  pip install 'deblur[openvino]'"
_registering = Lock()


def use_openvino(
    options: onnxruntime.SessionOptions,
    precision: Literal["fp32", "bf16", "int8"],
    threads: int,
    streams: int = 1,
) -> None:
    """Have the sessions made with ``options`` run by OpenVINO, on the CPU.

    Args:
        options: changed in place.
        precision: what is computed in. In a quantised network (``int8``) it is the layers that
            were left in float that are meant: they run in bf16 where the CPU has it.
        threads: of one session.
        streams: sessions that will run side by side.

    Raises:
        SetupError: the plugin is missing or cannot be loaded, or the CPU has no bf16.
    """
    device = _device()
    if precision == "bf16" and not computes_bf16():
        raise SetupError(
            "OpenVINO computes no bf16 on this CPU: that takes AVX-512 BF16 or AMX; use fp32 or "
            "int8, or run  deblur tune  on this machine"
        )
    config = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" or not computes_bf16() else "bf16",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
    }
    if streams > 1:
        # Every session would pin its threads to the same cores, the first ones.
        config["ENABLE_CPU_PINNING"] = "NO"
    # What OpenVINO cannot run would silently run elsewhere, in another precision.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": config})})


def computes_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU.

    Raises:
        SetupError: the plugin is missing or cannot be loaded.
    """
    return "BF16" in _device().ep_metadata.get("OPTIMIZATION_CAPABILITIES", "").split()


def openvino_version() -> str:
    """The plugin's version.

    Raises:
        SetupError: it is missing or cannot be loaded.
    """
    return str(_device().ep_metadata.get("version", "unknown"))


def _device() -> Any:
    # The library can be registered once only, and servers open their models from threads.
    with _registering:
        return _registered()


@cache
def _registered() -> Any:
    """The CPU as OpenVINO's device, with the plugin registered."""
    try:
        plugin = importlib.import_module(_PACKAGE)
    except ImportError as error:
        raise SetupError(
            f"the OpenVINO plugin of onnxruntime is not installed ({error}): {_INSTALL}, or serve "
            "with the provider cpu"
        ) from None
    try:
        if not _devices(plugin.get_ep_name()):
            onnxruntime.register_execution_provider_library(
                plugin.get_ep_name(), plugin.get_library_path()
            )
        devices = _devices(plugin.get_ep_name())
    except Exception as error:  # a missing file, a library of another system, another onnxruntime
        raise SetupError(
            f"the OpenVINO plugin of onnxruntime cannot be loaded "
            f"({first_line(error)}): {_INSTALL} again, or serve with the provider cpu"
        ) from None
    if not devices:
        raise SetupError(
            "the OpenVINO plugin of onnxruntime finds no CPU that it can use: serve with the "
            "provider cpu"
        )
    return devices[0]


def _devices(name: str) -> list[Any]:
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return [d for d in onnxruntime.get_ep_devices() if d.ep_name == name and d.device.type == cpu]


def first_line(error: Exception) -> str:
    """The first line of what onnxruntime says, which may say a page; or the error's name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
