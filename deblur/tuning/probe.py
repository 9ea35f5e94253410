"""Whether a setting runs at all, tried in a process of its own.

A provider may end the process that tries it: by an instruction that the CPU lacks, or by more
memory than there is. In a process of its own that is an answer like any other.
"""

import subprocess
import sys
from pathlib import Path

from deblur.errors import DeblurError
from deblur.serving.setting import Setting

_PATIENCE = 600.0


def why_not(model: Path, setting: Setting) -> str:
    """Why ``setting`` cannot run ``model`` on this machine; empty if it can."""
    command = [sys.executable, "-m", "deblur.tuning.probe", str(model), setting.model_dump_json()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"one tile took more than {_PATIENCE:g} s"
    if done.returncode == 0:
        return ""
    if done.returncode == 2:
        return done.stdout.strip()
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    # Negative is the signal that ended it, as -4 for an unknown instruction and -9 for no memory.
    return f"the process that tried it ended with {done.returncode}: {last}"


def main() -> int:
    from deblur.serving.engine import Engine

    try:
        Engine(Path(sys.argv[1]), setting=Setting.model_validate_json(sys.argv[2])).warm_up()
    except DeblurError as error:
        sys.stdout.write(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
