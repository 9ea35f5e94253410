"""The memory that a piece of work needs, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_PEAK = """
import resource, sys

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

"""
_COUNTED = """
print(peak() - before)
"""
# On Linux the peak of a started process begins with the one of the process that started it.
_BETWEEN = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
)


def peak_bytes(program: str, *arguments: str) -> int:
    """How far the resident memory rises above ``before = peak()``, a line of ``program``.

    Skips the test where it cannot be measured.
    """
    pytest.importorskip("resource")
    whole = _PEAK + program + _COUNTED
    done = subprocess.run(
        [sys.executable, "-c", _BETWEEN, whole, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return int(done.stdout.splitlines()[-1])
