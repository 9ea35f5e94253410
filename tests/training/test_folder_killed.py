"""Checkpoints of a process that is killed with no warning, again and again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deblur.training.checkpoint import load_checkpoint
from deblur.training.folder import BEST, CheckpointFolder
from tests.training.states import is_of_step, state

KILLS = 200
#: Forks, as starting Python and torch takes seconds. The child saves without end, and writes the
#: step of each save that is on the disk to a pipe; the parent kills it and looks at what is left.
PROGRAM = """
import json, os, random, re, signal, sys, time
from pathlib import Path
import torch
from deblur.training.folder import BEST, CheckpointFolder, epoch_name
from tests.training.states import is_of_step, state

torch.set_num_threads(1)
path, kills = Path(sys.argv[1]), int(sys.argv[2])
moments = random.Random(3)

def save_without_end(step, pipe):
    folder = CheckpointFolder(path)
    with folder.writing():
        os.write(pipe, b"0 ")
        while True:
            step += 1
            names = [BEST] if step % 3 == 0 else []
            names += [epoch_name(step % 3)] if step % 4 == 1 else []
            # A timed save at the end of an epoch is followed by another one of the same step.
            for epoch in range(1 + step % 2):
                folder.save(state(step, 20_000, epoch), names)
                folder.flush()
                os.write(pipe, f"{step} ".encode())

began = time.perf_counter()
folder = CheckpointFolder(path)
with folder.writing():
    for reached in range(1, 6):
        folder.save(state(reached, 20_000), [BEST])
longest = 3 * (time.perf_counter() - began) / reached
saves, parts, faults = 0, {}, []
for number in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            save_without_end(reached, write)
        finally:
            os._exit(1)
    os.close(write)
    told = os.read(read, 2)  # it has begun
    time.sleep(moments.uniform(0.0, longest))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while more := os.read(read, 65536):
        told += more
    os.close(read)
    if not os.WIFSIGNALED(status):
        faults.append(f"round {number}: the child ended by itself")
    promised = max(int(word) for word in told.split())
    saves += max(0, promised - reached)
    # Long enough for a save or two, however busy the machine is.
    longest = min(0.3, longest * (0.93 if promised > reached else 1.1))
    for left in path.glob(".*.partial"):
        kind = re.sub(r"[0-9]+", "N", left.name)
        parts[kind] = parts.get(kind, 0) + 1
    try:
        newest = CheckpointFolder(path).newest()
    except Exception as error:
        faults.append(f"round {number}: {error!r}")
        continue
    step = newest.step if newest is not None else 0
    if step < max(promised, reached):
        faults.append(f"round {number}: step {step}, although {promised} was on the disk")
    if newest is not None and not is_of_step(newest, step):
        faults.append(f"round {number}: the weights are not those of step {step}")
    reached = step
print(json.dumps({"reached": reached, "saves": saves, "parts": parts, "faults": faults}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_hundred_kills_never_leave_an_unreadable_newest(tmp_path: Path) -> None:
    path = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(KILLS)],
        capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(told)
    assert told["faults"] == []
    assert told["saves"] > KILLS / 4, "killed too early to save anything"
    assert sum(told["parts"].values()) > KILLS / 10, "hardly a kill hit a save"
    assert {".step_N.pt.N.partial", ".latest.json.N.partial"} <= told["parts"].keys()

    reached = told["reached"]
    folder = CheckpointFolder(path)
    problems = folder.problems()
    assert set(problems.values()) == {None}
    assert {BEST, "epoch_0000.pt", "epoch_0001.pt", "epoch_0002.pt"} <= problems.keys()

    (path / ".step_00000001.pt.1.partial").write_bytes(b"half")
    (path / ".latest.json.1.partial").write_bytes(b"half")
    assert {".latest.json.1.partial", ".step_00000001.pt.1.partial"} <= set(folder.prune(keep=1))
    assert list(path.glob(".*.partial")) == []
    assert is_of_step(folder.newest(), reached)

    with folder.writing():
        for step in (reached + 1, reached + 2):
            folder.save(state(step), [BEST])
    assert is_of_step(folder.newest(), reached + 2)
    assert is_of_step(load_checkpoint(path / BEST), reached + 2)
    assert set(folder.problems().values()) == {None}
    steps = [name for name in folder.files() if name.startswith("step_")]
    assert steps == [f"step_{step:08d}.pt" for step in (reached + 2, reached + 1)]
    # The two newest, the best, an epoch's, latest.json, .lock.
    assert len(list(path.iterdir())) == 6
