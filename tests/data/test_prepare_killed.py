"""Preparation that is killed with no warning, again and again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.manifest import read_manifest
from deblur.data.prepare import prepare
from deblur.digests import file_sha256

KILLS = 50
#: Small shards and slow decoding, so that the kills fall into all of its parts.
PROGRAM = """
import sys, time
from pathlib import Path
from deblur.data import prepare, shards
shards.SHARD_PAIRS = 5
read = prepare._read
def slowly(pair):
    time.sleep(0.004)
    return read(pair)
prepare._read = slowly
print("started", flush=True)
prepare.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def digests(folder: Path) -> dict[str, str]:
    return {f.name: file_sha256(f) for f in sorted(folder.iterdir()) if f.name != ".lock"}


@pytest.mark.slow
def test_fifty_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    root, out = tmp_path / "pairs", tmp_path / "killed"
    for number in range(90):
        split = "test" if number % 6 == 0 else "train"
        for kind in ("blur", "sharp"):
            folder = root / split / f"scene{number % 3}" / kind
            folder.mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{number:03d}.png")

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", PROGRAM, str(root), str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    began = time.monotonic()
    assert start(tmp_path / "undisturbed").wait() == 0
    duration = time.monotonic() - began
    expected = digests(tmp_path / "undisturbed")
    assert len(expected) > 12, "too few shards to be interrupted between"

    moments = random.Random(7)
    kills, finished, parts = 0, 0, set()
    while kills < KILLS:
        process = start(out)
        time.sleep(moments.uniform(0.0, 0.4 * duration))
        if process.poll() is None:
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()
            kills += 1
            parts.add(frozenset(f.name for f in out.iterdir()) if out.exists() else frozenset())
        else:
            assert process.returncode == 0
            finished += 1
            assert digests(out) == expected
            for file in out.iterdir():  # and from the beginning
                file.unlink()
    assert start(out).wait() == 0
    assert digests(out) == expected
    assert len(parts) > 8, "the kills came at too few different moments"

    import deblur.data.shards

    before = read_manifest(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deblur.data.shards, "SHARD_PAIRS", 5)
        assert prepare(root, out) == before
