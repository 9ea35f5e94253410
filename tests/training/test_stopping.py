"""A signal ends a training at the next step, and the process with the code that shells give it."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from deblur.stopping import stop_signals
from deblur.training.folder import CheckpointFolder


def test_a_signal_is_kept_as_a_request_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_signals() as request:
        assert request.signum == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signum == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)  # the same request heard twice
        assert request.signum == signal.SIGTERM
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_ctrl_c_again_after_a_while_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_signals() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signum == signal.SIGINT
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_leave_the_signals_alone() -> None:
    seen = []

    def look() -> None:
        with stop_signals() as request:
            seen.append((request.signum, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(0, before)]


def deblur_train(data: Path, work: Path, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deblur", "train", str(data), "--out", str(work / "run")]
    settings = (
        "base_ch=8", "patch_size=64", "tile=64", "overlap=16", "precision=fp32", "num_epochs=2",
        "crops_per_image=60", "log_every=1", "batch_size=4", "patience=0", *settings,
    )  # fmt: skip
    command += [argument for setting in settings for argument in ("--set", setting)]
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{work / 'mlflow.db'}"}
    return subprocess.Popen(
        command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def logged_steps(database: Path, key: str) -> list[int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as store:
        rows = store.execute("SELECT step FROM metrics WHERE key = ? ORDER BY step", (key,))
        return [step for (step,) in rows]


def status(database: Path) -> list[str]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as store:
        return [row[0] for row in store.execute("SELECT status FROM runs")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Windows cannot be sent like this")
def test_a_training_that_is_preempted_twice_and_killed_leaves_one_whole_curve(
    tiny_data: Path, tmp_path: Path
) -> None:
    database, run = tmp_path / "mlflow.db", tmp_path / "run"
    done = 0
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = deblur_train(tiny_data, tmp_path, "save_minutes=0.02")
        deadline = time.monotonic() + 180
        while True:
            time.sleep(0.2)
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            with suppress(sqlite3.OperationalError):  # MLflow is making its tables
                if len(logged_steps(database, "loss")) > done + 10:
                    break
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        kept = CheckpointFolder(run).newest()
        assert kept is not None
        if signum != signal.SIGKILL:
            # Everything that was done is saved: not a step was reported that is lost.
            assert max(logged_steps(database, "loss")) == kept.step
            assert f"stopped after step {kept.step} of 120" in said
            assert status(database) == ["KILLED"]
        assert kept.step > done or signum == signal.SIGKILL
        done = max(logged_steps(database, "loss"))

    process = deblur_train(tiny_data, tmp_path)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "after 2 epochs" in out
    assert logged_steps(database, "loss") == list(range(1, 121))
    assert logged_steps(database, "psnr") == [1, 2]
    assert status(database) == ["FINISHED"]
