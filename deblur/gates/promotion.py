"""Whether a candidate takes the champion's place: the rule, on figures measured elsewhere.

The candidate has to be better, or as good and faster; and whatever the champion is, it must help,
do no harm, show no seams and not have seen the pictures it is judged by. ``docs/registry.md``
explains the bounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deblur.bootstrap import Interval, paired_interval
from deblur.evaluation import Scores
from deblur.gates.check import Check
from deblur.plain import finite

#: How much worse a faster model may be at the low end of the interval, in dB.
MARGIN = 0.05
#: How much faster it has to be: 1.1 is 10 % less time a pixel.
SPEEDUP = 1.1
#: Least PSNR above the blurred input's at the low end of the interval, in dB: not nothing.
GAIN = 0.001
#: Of a picture that equals its original PSNR is infinite, of which there is no mean.
CEILING = 100.0
SEED = 0


@dataclass(frozen=True)
class Measured:
    """A version on the pictures, served with its own setting.

    Attributes:
        version: its number.
        sha256: digest of the file served.
        setting: how it is served, as plain values.
        scores: of all pictures.
        ms_per_megapixel: median time of the server's work on a megapixel, measured in turns with
            the other version's.
    """

    version: int
    sha256: str
    setting: Mapping[str, Any]
    scores: Scores
    ms_per_megapixel: float


@dataclass(frozen=True)
class Side:
    """What a decision says of one of the two versions. PSNR in dB, means over the pictures."""

    version: int
    sha256: str
    setting: Mapping[str, Any]
    psnr: float
    ssim: float
    ms_per_megapixel: float


@dataclass(frozen=True)
class Decision:
    """Whether a candidate is promoted, and all that it was decided by.

    Attributes:
        promoted: the verdict.
        reason: it in one sentence.
        candidate, champion: the two sides; no champion if there was none.
        blurred_psnr: of the input, in dB.
        gain: of the candidate over the input in dB, with its interval.
        difference: candidate less champion in dB, with its interval.
        speedup: the champion's time a megapixel over the candidate's.
        checks: every figure that has to keep a bound, whatever the champion is.
        pictures, scenes: how many were measured.
        data: what they are: ``address``, ``digest``, ``split``, ``subset``, ``kind``.
        code_revision: git revision that decided.
        decided: when, in ISO 8601.
    """

    promoted: bool
    reason: str
    candidate: Side
    champion: Side | None
    blurred_psnr: float
    gain: Interval
    difference: Interval | None
    speedup: float | None
    checks: tuple[Check, ...]
    pictures: int
    scenes: int
    data: Mapping[str, str]
    code_revision: str
    decided: str

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON, where what is not finite is ``None``; checks with whether they
        passed."""
        checks = [{**asdict(check), "passed": check.passed} for check in self.checks]
        return dict(finite({**asdict(self), "checks": checks}))


def decide(
    candidate: Measured,
    champion: Measured | None,
    checks: Sequence[Check],
    data: Mapping[str, str],
    code_revision: str,
    decided: str,
) -> Decision:
    """Decide by what was measured; the same figures give the same decision.

    Args:
        candidate: the version that may become champion.
        champion: the champion on the same pictures in the same order; ``None`` if there is none.
        checks: harm, seams and leaks of the candidate.
        data, code_revision, decided: as in ``Decision``.

    Raises:
        ValueError: the two were not measured on the same pictures, or on none.
    """
    ours = candidate.scores.pictures
    scenes = [picture.scene for picture in ours]
    psnr = _psnr(candidate.scores)
    blurred = [min(picture.blurred.psnr, CEILING) for picture in ours]
    gain = paired_interval(psnr, blurred, scenes, seed=SEED)
    every = (_gain_check(gain), *checks)

    difference, speedup = None, None
    if champion is not None:
        names = [(p.scene, p.name) for p in champion.scores.pictures]
        if names != [(p.scene, p.name) for p in ours]:
            raise ValueError("candidate and champion were measured on different pictures")
        difference = paired_interval(psnr, _psnr(champion.scores), scenes, seed=SEED)
        speedup = champion.ms_per_megapixel / candidate.ms_per_megapixel

    failed = [check.sentence() for check in every if not check.passed]
    promoted, reason = _verdict(difference, speedup)
    if failed:
        promoted, reason = False, "; ".join(failed)
    return Decision(
        promoted=promoted,
        reason=reason,
        candidate=_side(candidate),
        champion=_side(champion) if champion is not None else None,
        blurred_psnr=float(candidate.scores.blurred_psnr),
        gain=gain,
        difference=difference,
        speedup=speedup,
        checks=every,
        pictures=len(ours),
        scenes=len(set(scenes)),
        data=dict(data),
        code_revision=code_revision,
        decided=decided,
    )


def _verdict(difference: Interval | None, speedup: float | None) -> tuple[bool, str]:
    """Whether the candidate beats the champion, and the sentence that says so."""
    if difference is None or speedup is None:
        return True, "the first champion: every check passed"
    measured = (
        f"{difference.mean:+.3f} dB against the champion (95 % interval {difference.low:+.3f} to "
        f"{difference.high:+.3f}) at {speedup:.2f} times its speed"
    )
    if difference.low > 0.0:
        return True, f"better: {measured}"
    if difference.low > -MARGIN and speedup >= SPEEDUP:
        return True, f"as good within {MARGIN} dB and faster: {measured}"
    if math.isnan(difference.low):
        return False, f"one picture shows nothing: {measured}; measure on more"
    return False, (
        f"neither better (low end above 0) nor within {MARGIN} dB and {SPEEDUP} times as fast: "
        f"{measured}"
    )


def _gain_check(gain: Interval) -> Check:
    """``gain`` has to be above zero at the low end of its interval."""
    return Check(
        "gain", gain.low, "at least", GAIN, "dB",
        f"low end of the 95 % interval of the PSNR above the blurred input's, mean {gain.mean:.3f}",
    )  # fmt: skip


def _psnr(scores: Scores) -> list[float]:
    return [min(picture.result.psnr, CEILING) for picture in scores.pictures]


def _side(measured: Measured) -> Side:
    return Side(
        version=measured.version,
        sha256=measured.sha256,
        setting=dict(measured.setting),
        psnr=float(measured.scores.psnr),
        ssim=float(measured.scores.ssim),
        ms_per_megapixel=measured.ms_per_megapixel,
    )
