"""Candidate against champion: measured side by side as they are served, decided, recorded.

The rule itself is in ``deblur.gates.promotion``.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deblur.card import publish_card
from deblur.champion import finish_move, make_champion
from deblur.data.layout import Averaging
from deblur.data.manifest import MANIFEST, Manifest, read_manifest
from deblur.data.pairs import Pairs, open_pairs
from deblur.data.prepare import describe
from deblur.digests import code_revision
from deblur.errors import DataError
from deblur.evaluation import Predict, Scores, evaluate
from deblur.gates.decision import decision_figure, decision_markdown
from deblur.gates.harm import harm_sheet
from deblur.gates.leaks import check_leaks
from deblur.gates.look import look, some_of
from deblur.gates.promotion import Decision, Measured, decide
from deblur.images import to_float
from deblur.progress import SILENT, Progress
from deblur.registry import (
    CANDIDATE,
    CHAMPION,
    MODEL_NAME,
    Version,
    alias_holder,
    fetch_model,
    find_version,
    keep_files,
    read_file,
    set_tags,
)
from deblur.serving.engine import Engine

#: Where a decision lies among the files of a version.
PROMOTION = "promotion"
#: Pictures that are timed, their longest side, and how often each model takes each of them.
_TIMED, _LONGEST, _ROUNDS = 3, 1024, 5


@dataclass(frozen=True)
class Trial:
    """What a trial came to.

    Attributes:
        version: the candidate, with its aliases as they are now.
        decision: ``None`` if the candidate is the champion already.
        replaced: the champion before, if the candidate took its place.
    """

    version: Version
    decision: Decision | None
    replaced: Version | None = None


def promote(
    data: Path | str,
    candidate: str = f"models:/{MODEL_NAME}@{CANDIDATE}",
    split: str = "test",
    subset: Averaging = "blur",
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Trial:
    """Let a version be the champion if it is better than the one that is.

    Both are fetched, and run with the setting that each would be served with. Decision and evidence
    are kept with the version before any alias moves, so that calling it again repairs what was
    interrupted.

    Args:
        data: the data set to judge by, prepared or not.
        candidate: address of the version.
        split: of the data.
        subset: blurred folder of the data.
        dry_run: decide, and neither record anything nor move an alias.
        progress: shows the pictures done.

    Raises:
        ModelFileError: there is no such version, or one of the two cannot be run.
        DataError: there is no such data, or the split is empty.
        SetupError: the registry cannot be reached.
    """
    version = find_version(candidate)
    if not dry_run:
        finish_move(version.name)
    champion = alias_holder(CHAMPION, version.name)
    if champion is not None and champion.version == version.version:
        return Trial(champion, None)
    pairs = open_pairs(data, split, subset)
    if not len(pairs):
        raise DataError(f"{data} has no pairs in its split '{split}': name another with --split")
    judged = describe(data, subset, progress)
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        place = Path(folder)
        engines = [Engine(fetch_model(version.address, place / "candidate" / "model.onnx"))]
        if champion is not None:
            file = fetch_model(champion.address, place / "champion" / "model.onnx")
            engines.append(Engine(file))
    ours = engines[0]
    versions = [version] if champion is None else [version, champion]
    scores = [
        evaluate(engine.predict, pairs, progress, name=f"version {each.version}")
        for engine, each in zip(engines, versions, strict=True)
    ]
    speeds = milliseconds_per_megapixel([engine.predict for engine in engines], pairs, progress)
    measured = [
        Measured(v.version, e.sha256, e.setting.model_dump(mode="json"), s, ms)
        for v, e, s, ms in zip(versions, engines, scores, speeds, strict=True)
    ]
    decision = decide(
        measured[0],
        measured[1] if champion is not None else None,
        checks=(
            *look(
                ours.predict, ours.setting.tile, ours.setting.overlap, pairs, scores[0],
                ours.rounded, progress,
            ),
            check_leaks(trained_on(version), judged, split),
        ),
        data={
            "address": str(data), "digest": judged.digest, "split": split,
            "subset": judged.subset, "kind": judged.kind,
        },
        code_revision=code_revision(),
        decided=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    if dry_run:
        return Trial(version, decision)
    _record(version, decision, scores, ours.predict)
    replaced = make_champion(version) if decision.promoted else None
    version = find_version(version.address)
    publish_card(version)
    return Trial(version, decision, replaced)


def trained_on(version: Version) -> Manifest | None:
    """The manifest of the data that a version was trained on; ``None`` if its run kept none, or it
    is of another data set than the version."""
    text = read_file(version, f"data/{MANIFEST}")
    if text is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_text(text, encoding="utf-8")
        manifest = read_manifest(Path(folder))
    return manifest if manifest.digest == version.tags.get("data.digest") else None


def milliseconds_per_megapixel(
    models: Sequence[Predict], pairs: Pairs, progress: Progress = SILENT, rounds: int = _ROUNDS
) -> list[float]:
    """Median time of each model for a megapixel, taken in turns so that a busy machine slows all
    of them alike.

    Args:
        models: whole pictures in and out.
        pairs: up to three of its blurred pictures are taken, at most 1024x1024 of each.
        progress: shows the pictures done.
        rounds: how often each model takes each picture; the first time is not counted.
    """
    planes = [
        to_float(pairs.read(index)[0][:_LONGEST, :_LONGEST]) for index in some_of(pairs, _TIMED)
    ]
    times: list[list[float]] = [[] for _ in models]
    with progress.task("speed", (rounds + 1) * len(planes), "pictures") as advance:
        for lap in range(rounds + 1):
            for picture in planes:
                order = range(len(models)) if lap % 2 else reversed(range(len(models)))
                for index in order:
                    started = time.perf_counter()
                    models[index](picture)
                    seconds = time.perf_counter() - started
                    if lap:
                        pixels = picture.shape[2] * picture.shape[3]
                        times[index].append(seconds * 1e3 / (pixels / 1e6))
                advance(1)
    return [float(np.median(each)) for each in times]


def _record(
    version: Version, decision: Decision, scores: Sequence[Scores], predict: Predict
) -> None:
    """Keep the decision with the version."""
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        place = Path(folder)
        text = json.dumps(decision.plain(), indent=1)
        (place / "decision.json").write_text(text + "\n", encoding="utf-8")
        (place / "decision.md").write_text(decision_markdown(decision), encoding="utf-8")
        decision_figure(decision, *scores).save(place / "decision.png")
        harm_sheet(predict).save(place / "harm.png")
        for side, of_side in zip(("candidate", "champion"), scores, strict=False):
            (place / f"scores_{side}.json").write_text(
                json.dumps([asdict(p) for p in of_side.pictures], indent=1) + "\n", encoding="utf-8"
            )
        keep_files(version, place, PROMOTION)
    set_tags(
        version,
        {
            "promotion": "promoted" if decision.promoted else "refused",
            "promotion.reason": decision.reason[:1000],
            "promotion.decided": decision.decided,
        },
    )
