"""The search for the setting to serve in: in stages, each going on from the best so far.

The full product of provider, precision, tile, overlap, threads and streams would take hours. What
matters most comes first: provider and precision at the contract's geometry, then tiles, then
overlaps for the two best tiles, then threads. Every stage times its settings in turns together
with the best of the stage before, and compares only times of one stage.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deblur.atomic import whole_file
from deblur.cpus import usable_cpus
from deblur.data.pairs import Pairs
from deblur.errors import DataError, DeblurError, ModelFileError
from deblur.progress import SILENT, Progress
from deblur.quantise import calibration_tiles, quantise
from deblur.serving.engine import Engine, read_contract
from deblur.serving.setting import Setting
from deblur.tiling import ALIGNMENT
from deblur.tuning.bench import Bench, Stopwatch, stopwatch
from deblur.tuning.machine import Machine, this_machine

#: PSNR in dB that a setting may lose against the reference. Below it, no one sees a difference.
GATE = 0.05
TILES = (256, 384, 512, 768, 1024)
OVERLAPS = (16, 32, 48, 64)
#: A setting has to be this much faster to take the place of a simpler one: less is noise.
_CLEARLY = 1.03


@dataclass(frozen=True)
class Effort:
    """How thoroughly is measured.

    Attributes:
        side: side in pixels of the picture whose time is taken.
        pictures: validation pictures that are scored.
        rounds: times that each setting is timed.
        tiles, overlaps: what is tried, in pixels.
    """

    side: int = 1536
    pictures: int = 8
    rounds: int = 3
    tiles: tuple[int, ...] = TILES
    overlaps: tuple[int, ...] = OVERLAPS


#: For a first look: less certain, and only the likely geometries.
QUICK = Effort(side=768, pictures=3, rounds=2, tiles=(256, 512), overlaps=(16, 32, 64))


@dataclass(frozen=True)
class Candidate:
    """A setting and what was measured of it.

    Attributes:
        setting: how the model was run.
        stage: of the search that tried it first.
        ms_per_mp: milliseconds per megapixel of the picture, or ``None`` if it failed.
        psnr: mean over the scored pictures in dB, or ``None`` if it failed.
        loss: dB below the reference; negative where it is better.
        passed: whether the loss is within the gate.
        why_not: what speaks against it; empty if it passed.
    """

    setting: Setting
    stage: str
    ms_per_mp: float | None
    psnr: float | None
    loss: float | None
    passed: bool
    why_not: str


@dataclass(frozen=True)
class Tuning:
    """What a tuning found.

    Attributes:
        model: SHA-256 of the model file.
        machine: where it was measured.
        effort: how.
        scored: names of the pictures that were scored.
        gate: dB that may be lost.
        reference: the plain setting, that losses and speed-up are measured against.
        candidates: all that was tried, in that order, the reference first.
        choice: the fastest within the gate.
        speed_up: time of the reference over that of the choice, both timed in turns at the end.
    """

    model: str
    machine: Machine
    effort: Effort
    scored: tuple[str, ...]
    gate: float
    reference: Candidate
    candidates: tuple[Candidate, ...]
    choice: Candidate
    speed_up: float

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        plain = asdict(self)
        for candidate, entry in zip(
            (self.reference, self.choice, *self.candidates),
            (plain["reference"], plain["choice"], *plain["candidates"]),
            strict=True,
        ):
            entry["setting"] = candidate.setting.model_dump()
        with whole_file(file) as partial:
            partial.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def tune(
    model: Path,
    train: Pairs,
    validation: Pairs,
    out: Path,
    effort: Effort = Effort(),
    progress: Progress = SILENT,
    clock: Stopwatch = stopwatch,
) -> Tuning:
    """Find the fastest setting of ``model`` on this machine whose loss is within the gate.

    Args:
        model: a float file with its contract. What lies beside it does not count.
        train: pictures that a quantised form learns its ranges from.
        validation: pictures that are scored, and the first of which is timed.
        out: folder of ``tuning.json``, of ``model.int8.onnx`` if int8 is chosen, and of what was
            measured. Called again with it, what is there is not measured again.
        effort: how thoroughly.
        progress: shows the measurements.
        clock: measures the time.

    Raises:
        ModelFileError: the model cannot be tuned.
        DataError: there are no validation pictures, or one cannot be read.
    """
    plain = Engine(model, setting=_plain_setting(model))
    if not len(validation):
        raise DataError(
            "there are no validation pictures to score settings on: expected a split 'val'"
        )
    indices = _spread(len(validation), effort.pictures)
    machine = this_machine()
    reference = plain.setting
    quantised, refusal = _quantised(model, plain, train, out, progress)
    bench = Bench(
        model=model,
        quantised=quantised,
        picture=timing_picture(validation.read(indices[0])[0], effort.side),
        pairs=validation,
        indices=indices,
        rounds=effort.rounds,
        journal=out / "measured.json",
        belongs={
            "model": plain.sha256, "machine": asdict(machine), "rounds": effort.rounds,
            "side": effort.side, "scored": [validation.names[i] for i in indices],
            "scenes": [validation.scenes[i] for i in indices],
        },
        progress=progress,
        clock=clock,
    )  # fmt: skip
    search = _Search(bench, reference, refusal)
    choice = search.run(effort)
    speed_up = search.race(choice)
    candidates = tuple(search.candidate(s, stage) for s, stage in search.tried.items())
    by_setting = {c.setting: c for c in candidates}
    found = Tuning(
        model=plain.sha256,
        machine=machine,
        effort=effort,
        scored=tuple(f"{validation.scenes[i]}/{validation.names[i]}" for i in indices),
        gate=GATE,
        reference=by_setting[reference],
        candidates=candidates,
        choice=by_setting[choice],
        speed_up=speed_up,
    )
    _keep_if_chosen(quantised, out / "model.int8.onnx", choice)
    found.write(out / "tuning.json")
    return found


def timing_picture(picture: np.ndarray, side: int) -> np.ndarray:
    """``picture`` cut, or mirrored on, to ``[side, side, 3]``."""
    cut = picture[:side, :side]
    beyond = ((0, side - cut.shape[0]), (0, side - cut.shape[1]), (0, 0))
    return np.pad(cut, beyond, mode="symmetric")


class _Search:
    """The stages, and what they have tried."""

    def __init__(self, bench: Bench, reference: Setting, refusal: str) -> None:
        self.bench, self.reference = bench, reference
        self.tried: dict[Setting, str] = {}
        self._refusal = refusal

    def run(self, effort: Effort) -> Setting:
        reference = self.reference
        computed = [
            reference.model_copy(update={"provider": provider, "precision": precision})
            for provider, precision in (
                ("cpu", "int8"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
            )
        ]  # fmt: skip
        if self._refusal:
            for setting in computed:
                if setting.precision == "int8":
                    self.bench.fail(setting, self._refusal)
        best = self._stage("precision", [reference, *computed])[0]
        if self.bench.problem(reference):
            raise ModelFileError(
                f"the plain setting itself does not run: {self.bench.problem(reference)}"
            )
        wide = [with_geometry(best, tile, best.overlap) for tile in effort.tiles]
        tiles = self._stage("tile", [best, *(s for s in wide if s)], 2)
        narrow = [with_geometry(t, t.tile, overlap) for t in tiles for overlap in effort.overlaps]
        best = self._stage("overlap", [*tiles, *(s for s in narrow if s)])[0]
        shared = [
            best.model_copy(update={"threads": threads, "streams": streams})
            for threads, streams in ways_to_share(usable_cpus())
        ]
        return self._stage("threads", [best, *shared])[0] if shared else best

    def race(self, choice: Setting) -> float:
        """How many times as fast as the reference the choice is, both timed in turns."""
        if choice == self.reference:
            return 1.0
        self.bench.measure("comparison", [self.reference, choice])
        slow = self.bench.seconds("comparison", self.reference)
        fast = self.bench.seconds("comparison", choice)
        return slow / fast if slow and fast else math.nan

    def candidate(self, setting: Setting, stage: str) -> Candidate:
        psnr, loss = self.bench.psnr(setting), self._loss(setting)
        problem = self.bench.problem(setting)
        if loss is not None and loss > GATE:
            problem = f"loses {loss:.3f} dB, allowed are {GATE:g}"
        elif setting != self.reference:
            problem = problem or self.bench.seams(setting)
        time = self.bench.milliseconds_per_megapixel(setting)
        passed = self._passed(setting)
        return Candidate(setting, stage, time, psnr, loss, passed, problem)

    def _stage(self, name: str, settings: Sequence[Setting], wanted: int = 1) -> list[Setting]:
        """The best that pass, ``wanted`` of them if there are. The first given stays the best
        unless clearly beaten."""
        settings = list(dict.fromkeys(settings))
        self.bench.measure(name, settings)
        for setting in settings:
            self.tried.setdefault(setting, name)
        times = {s: self.bench.seconds(name, s) for s in settings if self._passed(s)}
        timed = {s: t for s, t in times.items() if t is not None}
        first = settings[0]
        if first in timed:
            timed[first] /= _CLEARLY
        best: list[Setting] = []
        for setting in sorted(timed, key=timed.__getitem__):
            # Looked for in the best alone, because it takes longer than to score them.
            if setting != self.reference:
                self.bench.look_for_seams(setting)
            if self._passed(setting):
                best.append(setting)
            if len(best) == wanted:
                break
        return best or [self.reference]

    def _loss(self, setting: Setting) -> float | None:
        psnr, best = self.bench.psnr(setting), self.bench.psnr(self.reference)
        return None if psnr is None or best is None else best - psnr

    def _passed(self, setting: Setting) -> bool:
        loss = self._loss(setting)
        good = loss is not None and loss <= GATE
        return good and (setting == self.reference or not self.bench.seams(setting))


def with_geometry(setting: Setting, tile: int, overlap: int) -> Setting | None:
    """``setting`` with other tiles, or ``None`` where they overlap by more than half."""
    if overlap > tile // 2 or overlap % ALIGNMENT:
        return None
    return setting.model_copy(update={"tile": tile, "overlap": overlap})


def ways_to_share(cpus: int) -> list[tuple[int, int]]:
    """``(threads, streams)`` worth trying beside one session with all CPUs."""
    ways = [(cpus // 2, 1), (cpus // 2, 2), (1, cpus)]
    return [way for way in dict.fromkeys(ways) if cpus > 1]


def _plain_setting(model: Path) -> Setting:
    """The setting of the model's contract, whatever lies beside the file."""
    contract = read_contract(model)
    if contract.precision != "fp32":
        raise ModelFileError(
            f"{model} is in {contract.precision} already: tune the file that it was made from"
        )
    return Setting.of(contract)


def _quantised(
    model: Path, plain: Engine, train: Pairs, out: Path, progress: Progress
) -> tuple[Path | None, str]:
    """The quantised form, or why there is none. Kept in ``out`` for a tuning that goes on."""
    file = out / f"candidate-{plain.sha256[:12]}.int8.onnx"
    try:
        if not file.is_file():
            tiles = calibration_tiles(train, plain.setting.tile, progress=progress)
            quantise(model, file, tiles, progress)
        return file, ""
    except DataError:
        raise
    except (DeblurError, ImportError) as error:
        return None, str(error)


def _keep_if_chosen(quantised: Path | None, kept: Path, choice: Setting) -> None:
    """The quantised form under its name, or nothing: one of an earlier tuning goes, too."""
    kept.unlink(missing_ok=True)
    if quantised and choice.precision == "int8":
        quantised.replace(kept)
    elif quantised:
        quantised.unlink()


def _spread(available: int, wanted: int) -> list[int]:
    """Indices spread evenly over a set, so that all scenes have a share."""
    return [
        int(i) for i in np.unique(np.linspace(0, available - 1, min(wanted, available)).round())
    ]
