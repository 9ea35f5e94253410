"""``deblur down``: ends the platform of a folder from another process."""

import time
from collections.abc import Callable

import psutil

from deblur.local.parts import TITLES, WORKER
from deblur.local.processes import Stopping, alive, marked
from deblur.local.state import StateFolder
from deblur.local.supervisor import ORDER

#: Seconds that a supervisor has to stop all its parts in order.
PATIENCE = 240.0
#: Seconds that a part has whose supervisor is gone.
_PART_PATIENCE = 70.0


def stop_platform(files: StateFolder, say: Callable[[str], None]) -> bool:
    """Stop all that runs, and wait until it has.

    A supervisor is asked to do it; without one the parts are found through the state file and
    their marks. What has another start time by now, or no mark, is not touched.

    Returns:
        whether there was anything.

    Raises:
        SetupError: the state file is damaged.
    """
    state = files.read()
    known = {part.name: part for part in state.parts} if state else {}
    if state is None and not marked(files.mark):
        files.clear()
        return False
    if state is not None:
        supervisor = state.supervisor.find()
        if supervisor is None:
            say("its supervisor is gone; what it left is stopped part by part")
        elif _stopped_by(supervisor, files, say):
            return True
    for name in reversed(ORDER):
        part = known.get(name)
        process = part.process.find() if part and part.process else None
        running = process is not None or bool(marked(files.mark, name))
        stopping = Stopping(process, files.mark, name, _PART_PATIENCE, name == WORKER)
        stopping.wait()
        if running:
            say(f"{TITLES[name]} {'was killed' if stopping.killed else 'has stopped'}")
    files.clear()
    return True


def _stopped_by(supervisor: psutil.Process, files: StateFolder, say: Callable[[str], None]) -> bool:
    """Ask the supervisor to stop everything, and wait. One that does not is killed: false."""
    before = files.read()
    left = [p.name for p in reversed(before.parts) if p.process] if before else []
    files.stop_request.touch()
    until = time.monotonic() + PATIENCE
    while alive(supervisor) and time.monotonic() < until:
        now = files.read()
        running = {p.name for p in now.parts if p.process} if now else set()
        for name in [name for name in left if name not in running]:
            left.remove(name)
            say(f"{TITLES[name]} has stopped")
        time.sleep(0.2)
    if not alive(supervisor):
        # It takes the file away when it is through; one that was killed meanwhile left it.
        if files.read() is not None:
            return False
        for name in left:
            say(f"{TITLES[name]} has stopped")
        return True
    say("its supervisor did not stop in time and is killed")
    supervisor.kill()
    return False
