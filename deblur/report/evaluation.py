"""What an evaluation found, in words and as JSON."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import deblur
from deblur.atomic import whole_file
from deblur.bootstrap import DRAWS, Interval, mean_interval
from deblur.data.layout import Averaging
from deblur.data.manifest import is_prepared, read_manifest
from deblur.data.pairs import data_kind, open_pairs
from deblur.digests import code_revision
from deblur.errors import DataError, SetupError
from deblur.evaluation import PictureScore, Scores, evaluate
from deblur.gates.check import Check
from deblur.metrics import Quality
from deblur.plain import finite
from deblur.predictors import Predictor
from deblur.progress import SILENT, Progress

FORMAT = 1
HTML, JSON = "report.html", "report.json"
#: GoPro's test set (Nah et al., CVPR 2017), and how the names of its scenes begin.
GOPRO_PICTURES, GOPRO_SCENES, GOPRO_PREFIX = 1111, 11, "GOPR"


@dataclass(frozen=True)
class Source:
    """The pictures that were measured.

    Attributes:
        data: address of the data set, and the ``split`` of it.
        subset: ``blur`` or ``blur_gamma``.
        kind: ``simulated`` or ``recorded``.
        digest: SHA-256 of a prepared data set's manifest, ``split_digest`` of the split's pairs;
            ``None`` of pictures in folders.
    """

    data: str
    split: str
    subset: Averaging
    kind: str
    digest: str | None
    split_digest: str | None


@dataclass(frozen=True)
class Figure:
    """A metric: of the blurred input, of the result, and of their difference picture by picture.

    The intervals are ``None`` where a value is not finite, as the PSNR of a picture that equals its
    original.
    """

    name: str
    blurred_mean: float
    mean: float
    blurred: Interval | None
    result: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class EvaluationReport:
    """One model on one set of pictures. ``created`` is ISO 8601 in UTC, ``checks`` are those of
    harm and seams if they were made."""

    model: Predictor
    source: Source
    scores: Scores
    figures: tuple[Figure, ...]
    created: str
    checks: tuple[Check, ...] = ()

    @property
    def psnr(self) -> Figure:
        """The first of the figures."""
        return self.figures[0]

    @property
    def worse(self) -> tuple[PictureScore, ...]:
        """The pictures that lost PSNR, the most damaged first."""
        found = [picture for picture in self.scores.pictures if picture.gain < 0.0]
        return tuple(sorted(found, key=lambda picture: picture.gain))

    @property
    def gopro(self) -> str:
        """Whether this is GoPro's test set: ``whole``, ``part``, or empty for other data."""
        scenes = {picture.scene for picture in self.scores.pictures}
        if self.source.split != "test" or not all(s.startswith(GOPRO_PREFIX) for s in scenes):
            return ""
        whole = (len(self.scores.pictures), len(scenes)) == (GOPRO_PICTURES, GOPRO_SCENES)
        return "whole" if whole else "part"

    def sentences(self) -> list[str]:
        """What a person has to know to trust the figures, a sentence each."""
        pictures = self.scores.pictures
        scenes = len({picture.scene for picture in pictures})
        said = [f"PSNR {self._with_interval()}, {_counted(len(pictures), scenes)}."]
        gain = self.psnr.gain
        if gain is None:
            equal = sum(not math.isfinite(picture.gain) for picture in pictures)
            said.append(f"{equal} of the pictures equal their originals: there is no interval.")
        elif gain.groups == 1:
            said.append("A single picture has no interval.")
        elif gain.drawn == "pictures":
            said.append(
                "All pictures are of one scene: the interval is over its pictures, and says "
                "nothing of other scenes."
            )
        if self.worse:
            said.append(
                f"{len(self.worse):,} of {len(pictures):,} pictures were made worse, one by "
                f"{-self.worse[0].gain:.2f} dB."
            )
        else:
            said.append("No picture was made worse.")
        failed = [check.name for check in self.checks if not check.passed]
        if failed:
            said.append(
                f"{len(failed)} of {len(self.checks)} checks of harm and seams failed: "
                f"{', '.join(failed)}."
            )
        elif self.checks:
            said.append(f"All {len(self.checks)} checks of harm and seams passed.")
        if self.gopro == "whole":
            said.append(f"This is GoPro's whole test set, blurred folder {self.source.subset}.")
        elif self.gopro:
            said.append(
                f"This is a part of GoPro's test set, which has {GOPRO_PICTURES:,} pictures of "
                f"{GOPRO_SCENES} scenes: not comparable to published figures."
            )
        return said

    def _with_interval(self) -> str:
        figure = self.psnr
        text = f"{figure.blurred_mean:.2f} to {figure.mean:.2f} dB"
        gain = figure.gain
        if gain is None:
            return text
        text += f", gain {gain.mean:+.2f} dB"
        if math.isnan(gain.low):
            return text
        return f"{text} ({100 * gain.level:.0f} % interval {gain.low:+.2f} to {gain.high:+.2f})"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; what is not finite is ``None``."""
        pictures = self.scores.pictures
        gain = self.psnr.gain
        content = {
            "format": FORMAT,
            "created": self.created,
            "deblur": deblur.__version__,
            "code_revision": code_revision(),
            "model": {
                field.name: getattr(self.model, field.name)
                for field in fields(self.model)
                if field.name != "predict"
            },
            "data": {
                **asdict(self.source),
                "pictures": len(pictures),
                "scenes": len({picture.scene for picture in pictures}),
                "gopro_test_set": self.gopro or None,
            },
            "interval": gain and {
                "level": gain.level, "drawn": gain.drawn, "groups": gain.groups, "draws": DRAWS,
            },
            "figures": {
                figure.name: {
                    part: {"mean": mean, **({"low": i.low, "high": i.high} if i else {})}
                    for part, mean, i in (
                        ("blurred", figure.blurred_mean, figure.blurred),
                        ("result", figure.mean, figure.result),
                        ("gain", figure.mean - figure.blurred_mean, figure.gain),
                    )
                }
                for figure in self.figures
            },
            "worse": len(self.worse),
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "scenes": {
                scene: {"pictures": len(part.pictures), "gain": part.gain, **part.metrics("scene")}
                for scene, part in self.scores.by_scene().items()
            },
            "pictures": [{**asdict(picture), "gain": picture.gain} for picture in pictures],
            "sentences": self.sentences(),
        }  # fmt: skip
        plain = finite(content)
        assert isinstance(plain, dict)
        return plain


def evaluate_and_report(
    model: Predictor,
    data: Path | str,
    split: str = "test",
    subset: Averaging = "blur",
    out: Path | None = None,
    progress: Progress = SILENT,
    loss_eps: float = 1e-3,
) -> EvaluationReport:
    """Measure a model on whole pictures; into ``out`` go ``report.html`` and ``report.json``.

    Args:
        model: what ``deblur.predictors.open_predictor`` gives.
        data: a data set, prepared or not, and its ``split`` and ``subset``.
        out: folder of the report; without one, none is written, and neither the volume's SSIM nor
            the checks of harm and seams are made.
        progress: shows the pictures.
        loss_eps: eps of the Charbonnier loss reported beside the metrics.

    Raises:
        DataError: there is no such data or split, or a picture cannot be read.
        SetupError: a server that was measured stopped answering; or no report can be written,
            which is said before anything is measured.
    """
    pairs = open_pairs(data, split, subset)
    if not len(pairs):
        raise DataError(
            f"the split '{split}' of {data} holds no pairs: there is nothing to measure"
        )
    source = _source(data, split, subset)
    if out is not None:
        _require_writable(out)
    matlab3d = out is not None
    scores = evaluate(model.predict, pairs, progress, loss_eps, matlab3d=matlab3d)
    checks: tuple[Check, ...] = ()
    if out is not None:
        from deblur.gates.look import look

        checks = look(
            model.predict, model.tile, model.overlap, pairs, scores, model.rounded, progress
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    report = EvaluationReport(model, source, scores, _figures(scores, matlab3d), created, checks)
    if out is not None:
        from deblur.report.page import render

        page = render(report, pairs, progress)
        content = json.dumps(report.to_json(), indent=1, allow_nan=False)
        for name, text in ((JSON, content + "\n"), (HTML, page)):
            with whole_file(out / name) as partial:
                partial.write_text(text, encoding="utf-8")
    return report


def _require_writable(out: Path) -> None:
    if find_spec("jinja2") is None:
        raise SetupError(
            "a report needs jinja2, which is not installed: pip install -e '.[train]', or leave "
            "out --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot write the report to {out} ({error}): name a folder with --out"
        ) from None


def _source(data: Path | str, split: str, subset: Averaging) -> Source:
    digest = split_digest = None
    if is_prepared(data):
        manifest = read_manifest(Path(data))
        digest, split_digest = manifest.digest, manifest.splits[split].digest
    return Source(str(data), split, subset, data_kind(data, subset), digest, split_digest)


def _figures(scores: Scores, matlab3d: bool) -> tuple[Figure, ...]:
    names = ("psnr", "ssim", "ssim_matlab3d") if matlab3d else ("psnr", "ssim")
    return tuple(_figure(scores, name) for name in names)


def _figure(scores: Scores, name: str) -> Figure:
    scenes = [picture.scene for picture in scores.pictures]

    def values(of: Callable[[PictureScore], Quality]) -> list[float]:
        return [float(getattr(of(picture), name)) for picture in scores.pictures]

    def interval(figures: list[float]) -> Interval | None:
        return mean_interval(figures, scenes) if all(map(math.isfinite, figures)) else None

    before, after = values(lambda p: p.blurred), values(lambda p: p.result)
    gains = [b - a for a, b in zip(before, after, strict=True)]
    return Figure(
        name=name,
        blurred_mean=sum(before) / len(before),
        mean=sum(after) / len(after),
        blurred=interval(before),
        result=interval(after),
        gain=interval(gains),
    )


def _counted(pictures: int, scenes: int) -> str:
    return f"{pictures:,} picture{'s' * (pictures != 1)} of {scenes:,} scene{'s' * (scenes != 1)}"
