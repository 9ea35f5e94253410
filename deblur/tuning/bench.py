"""The bench on which settings are measured: how long they take, and how good they are.

What was measured is written down at once, so that an interrupted tuning goes on where it was.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deblur.atomic import whole_file
from deblur.data.pairs import Pairs
from deblur.digests import json_sha256
from deblur.errors import DataError
from deblur.evaluation import evaluate
from deblur.gates.seams import ROUNDED_TILES, SMALLEST_TILE, SeamBounds, check_seams
from deblur.images import to_float
from deblur.progress import SILENT, Progress
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting
from deblur.tuning.probe import why_not

#: Seconds that a setting takes for the picture of a bench.
Stopwatch = Callable[[Engine, np.ndarray], float]


def stopwatch(engine: Engine, planes: np.ndarray) -> float:
    """Seconds of one picture through the tiler, the first allocations left out."""
    engine.warm_up()
    started = time.perf_counter()
    engine.predict(planes)
    return time.perf_counter() - started


class Bench:
    """Measures settings of one model on this machine, and remembers what it measured.

    Args:
        model: a float file with its contract.
        quantised: its int8 form, or ``None`` if none is asked for.
        picture: what the time is taken of: ``[H, W, 3]`` uint8.
        pairs: what the quality is taken of; ``indices`` says which of them.
        rounds: times that each setting is timed.
        journal: the file in which measurements are kept.
        belongs: what the measurements belong to; a journal of anything else is begun anew.
        progress: shows the measurements.
        clock: measures the time.
    """

    def __init__(
        self,
        model: Path,
        quantised: Path | None,
        picture: np.ndarray,
        pairs: Pairs,
        indices: Sequence[int],
        rounds: int,
        journal: Path,
        belongs: dict[str, Any],
        progress: Progress = SILENT,
        clock: Stopwatch = stopwatch,
    ) -> None:
        self.model, self.quantised = model, quantised
        self.pairs, self.indices, self.rounds = pairs, indices, rounds
        self.planes = to_float(picture)
        self.megapixels = picture.shape[0] * picture.shape[1] / 1e6
        self.progress, self.clock = progress, clock
        self._journal = journal
        self._digest = json_sha256(belongs)
        self._seconds: dict[str, dict[str, list[float]]] = {}
        self._psnr: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._seams: dict[str, str] = {}
        self._recall()

    def measure(self, stage: str, settings: Sequence[Setting]) -> None:
        """Time settings in turns, so that what else the machine does hits all alike, and score
        them. One that fails is remembered with its problem and does not end the measuring.

        Raises:
            DataError: a picture cannot be read.
        """
        times = self._seconds.setdefault(stage, {})
        done = sum(len(times.get(_key(s), ())) for s in settings)
        total = self.rounds * len(settings)
        with self.progress.task(f"time by {stage}", total, "runs", done=done) as advance:
            for number in range(self.rounds):
                for setting in settings:
                    taken = times.setdefault(_key(setting), [])
                    if len(taken) > number:
                        continue
                    if self._runs(setting):
                        self._try(setting, partial(self._time, setting, taken))
                    advance(1, setting.sentence())
        for setting in settings:
            if _quality(setting) not in self._psnr and self._runs(setting):
                self._try(setting, partial(self._score, setting))

    def seconds(self, stage: str, setting: Setting) -> float | None:
        """Median seconds of the picture as timed in ``stage``, or ``None`` where it failed."""
        taken = self._seconds.get(stage, {}).get(_key(setting))
        return statistics.median(taken) if taken and not self.problem(setting) else None

    def milliseconds_per_megapixel(self, setting: Setting) -> float | None:
        """Median of all runs in all stages."""
        taken = [s for stage in self._seconds.values() for s in stage.get(_key(setting), ())]
        return 1000 * statistics.median(taken) / self.megapixels if taken else None

    def psnr(self, setting: Setting) -> float | None:
        """Mean PSNR of the pictures in dB, or ``None`` where it failed."""
        return None if self.problem(setting) else self._psnr.get(_quality(setting))

    def problem(self, setting: Setting) -> str:
        """Why the setting could not be measured; empty if it could."""
        return self._problems.get(_key(setting), "")

    def seams(self, setting: Setting) -> str:
        """How the borders of the tiles show; empty if they do not, or were not looked for."""
        return self._seams.get(_quality(setting), "")

    def look_for_seams(self, setting: Setting) -> None:
        """Find out whether the borders of the tiles show in drawn pictures, as the gate of a
        promotion will."""
        if _quality(setting) not in self._seams and setting.tile >= SMALLEST_TILE:
            self._try(setting, partial(self._find_seams, setting))

    def engine(self, setting: Setting) -> Engine:
        """The model in a setting."""
        return Engine(self._file(setting), setting=setting)

    def _file(self, setting: Setting) -> Path:
        return (self.quantised or self.model) if setting.precision == "int8" else self.model

    def fail(self, setting: Setting, problem: str) -> None:
        """Remember that a setting cannot be used."""
        self._problems[_key(setting)] = problem
        self._keep()

    def _runs(self, setting: Setting) -> bool:
        """Whether it runs at all, found out once."""
        key = _key(setting)
        if key not in self._problems:
            self.fail(setting, why_not(self._file(setting), setting))
        return not self._problems[key]

    def _time(self, setting: Setting, taken: list[float]) -> None:
        # Opened anew each time: all settings of a stage together may be more than fits in memory.
        taken.append(self.clock(self.engine(setting), self.planes))

    def _score(self, setting: Setting) -> None:
        scores = evaluate(
            self.engine(setting).predict, self.pairs, self.progress,
            name=f"score {setting.sentence()}", indices=self.indices,
        )  # fmt: skip
        self._psnr[_quality(setting)] = scores.psnr

    def _find_seams(self, setting: Setting) -> None:
        engine = self.engine(setting)
        bounds = ROUNDED_TILES if engine.rounded else SeamBounds()
        checks = check_seams(
            engine.predict, setting.tile, setting.overlap, (), self.progress, bounds
        )
        failed = [check.sentence() for check in checks if not check.passed]
        self._seams[_quality(setting)] = "; ".join(failed)

    def _try(self, setting: Setting, work: Callable[[], None]) -> None:
        try:
            work()
        except DataError:
            raise
        except Exception as error:  # a provider's own classes, or no memory: the setting's fault
            self._problems[_key(setting)] = str(error) or type(error).__name__
        self._keep()

    def _recall(self) -> None:
        try:
            kept = json.loads(self._journal.read_text(encoding="utf-8"))
            if kept["belongs"] == self._digest:
                self._seconds, self._psnr = kept["seconds"], kept["psnr"]
                self._problems, self._seams = kept["problems"], kept["seams"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # none, or of another program: it is written anew

    def _keep(self) -> None:
        kept = {
            "belongs": self._digest, "seconds": self._seconds, "psnr": self._psnr,
            "problems": self._problems, "seams": self._seams,
        }  # fmt: skip
        with whole_file(self._journal) as partial:
            partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _key(setting: Setting) -> str:
    return setting.model_dump_json()


def _quality(setting: Setting) -> str:
    """Threads and streams do not change the result, so it is scored once for all of them."""
    return _key(setting.model_copy(update={"threads": None, "streams": 1}))
