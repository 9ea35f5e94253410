"""What can be wrong with one pair. A faulty pair gives one finding, which names the cause."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deblur.data.validation.findings import Entry, Finding, Rules
from deblur.data.validation.measure import PLAIN


@dataclass(frozen=True)
class Subject:
    """A pair with all that its checks need; ``deviation`` of its PSNR in robust z."""

    entry: Entry
    crop: int
    rules: Rules
    deviation: float | None

    def found(self, check: str, message: str, value: float | None = None) -> Finding:
        return self.rules.finding(check, message, self.entry.split, self.entry.pictures, value)

    def exceeds(self, check: str, value: float | None, below: bool = False) -> bool:
        if value is None or not self.rules.on(check):
            return False
        limit = self.rules.threshold(check)
        return value < limit if below else value > limit


def pair_cause(subject: Subject) -> Finding | None:
    """The first thing that is found wrong, in an order that puts causes before consequences."""
    return next((found for look in _IN_ORDER if (found := look(subject))), None)


def converted(entry: Entry, rules: Rules) -> Iterator[Finding]:
    """That files hold more, or less, than training sees."""
    if not rules.on("converted"):
        return
    both = (entry.measures.blur.stored, entry.measures.sharp.stored)
    found = [
        (picture, stored)
        for picture, stored in zip(entry.pictures, both, strict=True)
        if stored not in ("", PLAIN)
    ]
    if found:
        said = " and ".join(f"{picture} is stored as {stored}" for picture, stored in found)
        yield rules.finding(
            "converted", f"{said}: training sees {PLAIN}", entry.split, tuple(p for p, _ in found)
        )


def _unreadable(subject: Subject) -> Finding | None:
    entry = subject.entry
    if entry.readable or not subject.rules.on("unreadable"):
        return None
    both = (entry.measures.blur.error, entry.measures.sharp.error)
    said = "; ".join(error for error in both if error is not None)
    blamed = tuple(
        picture for picture, error in zip(entry.pictures, both, strict=True) if error is not None
    )
    return subject.rules.finding("unreadable", said, entry.split, blamed)


def _size_differs(subject: Subject) -> Finding | None:
    blur, sharp = subject.entry.measures.blur, subject.entry.measures.sharp
    if (blur.width, blur.height) == (sharp.width, sharp.height):
        return None
    if not (subject.entry.readable and subject.rules.on("size_differs")):
        return None
    return subject.found(
        "size_differs",
        f"{subject.entry.pair.blur} is {blur.width}x{blur.height} but its sharp picture is "
        f"{sharp.width}x{sharp.height}: both must have the same size",
    )


def _too_small(subject: Subject) -> Finding | None:
    blur, sharp, crop = subject.entry.measures.blur, subject.entry.measures.sharp, subject.crop
    if not (subject.entry.readable and subject.rules.on("too_small")):
        return None
    side, least = min(((min(p.width, p.height), p) for p in (blur, sharp)), key=lambda s: s[0])
    if side >= crop:
        return None
    return subject.found(
        "too_small",
        f"{subject.entry.pair.blur} is {least.width}x{least.height}, smaller than the training "
        f"crop of {crop}x{crop}",
        float(side),
    )


def _identical(subject: Subject) -> Finding | None:
    measures = subject.entry.measures
    if not measures.blur.pixels or measures.blur.pixels != measures.sharp.pixels:
        return None
    if not subject.rules.on("identical"):
        return None
    return subject.found(
        "identical",
        f"{subject.entry.pair.blur} and its sharp picture are identical: expected a blurred one",
    )


def _dark(subject: Subject) -> Finding | None:
    level = subject.entry.measures.sharp.level
    if not (subject.entry.readable and subject.exceeds("dark", level, below=True)):
        return None
    return subject.found(
        "dark",
        f"{subject.entry.pair.sharp} is almost black: its mean level is {level:.1f} of 255, "
        f"expected {subject.rules.threshold('dark'):g} or more",
        level,
    )


def _saturated(subject: Subject) -> Finding | None:
    share = subject.entry.measures.sharp.saturated
    if not subject.exceeds("saturated", share):
        return None
    return subject.found(
        "saturated",
        f"{subject.entry.pair.sharp} is overexposed: {share:.0%} of it is white, expected "
        f"{subject.rules.threshold('saturated'):.0%} at most",
        share,
    )


def _flat(subject: Subject) -> Finding | None:
    contrast = subject.entry.measures.sharp.contrast
    if not (subject.entry.readable and subject.exceeds("flat", contrast, below=True)):
        return None
    return subject.found(
        "flat",
        f"{subject.entry.pair.sharp} shows next to nothing: its levels deviate by {contrast:.1f} "
        f"of 255, expected {subject.rules.threshold('flat'):g} or more",
        contrast,
    )


def _different_content(subject: Subject) -> Finding | None:
    similarity = subject.entry.measures.similarity
    if similarity is None or not subject.exceeds("different_content", similarity, below=True):
        return None
    return subject.found(
        "different_content",
        f"{subject.entry.pair.blur} and its sharp picture show different scenes: they agree by "
        f"{similarity:.2f}, expected {subject.rules.threshold('different_content'):g} or more",
        similarity,
    )


def _swapped(subject: Subject) -> Finding | None:
    blur, sharp = subject.entry.measures.blur.sharpness, subject.entry.measures.sharp.sharpness
    ratio = blur / sharp if sharp > 0 else None
    if ratio is None or not subject.exceeds("swapped", ratio):
        return None
    return subject.found(
        "swapped",
        f"{subject.entry.pair.sharp} is blurrier than its blurred picture, whose gradients are "
        f"{ratio:.1f} times as strong: the two are probably exchanged",
        ratio,
    )


def _misaligned(subject: Subject) -> Finding | None:
    shift = subject.entry.measures.shift
    distance = None if shift is None else math.hypot(*shift)
    if shift is None or distance is None or not subject.exceeds("misaligned", distance):
        return None
    return subject.found(
        "misaligned",
        f"{subject.entry.pair.blur} is displaced by {distance:.1f} px "
        f"({_directed(shift)}) from its sharp picture, expected "
        f"{subject.rules.threshold('misaligned'):g} px at most",
        distance,
    )


def _directed(shift: tuple[float, float]) -> str:
    dx, dy = shift
    return (
        f"{abs(dx):.1f} to the {'right' if dx >= 0 else 'left'}, "
        f"{abs(dy):.1f} {'down' if dy >= 0 else 'up'}"
    )


def _psnr_low(subject: Subject) -> Finding | None:
    value = subject.entry.measures.psnr
    if not subject.exceeds("psnr_low", value, below=True):
        return None
    return subject.found(
        "psnr_low",
        f"{subject.entry.pair.blur} is at {value:.1f} dB of its sharp picture, expected "
        f"{subject.rules.threshold('psnr_low'):g} dB or more",
        value,
    )


def _psnr_outlier(subject: Subject) -> Finding | None:
    value, deviation = subject.entry.measures.psnr, subject.deviation
    if deviation is None or not subject.exceeds("psnr_outlier", abs(deviation)):
        return None
    return subject.found(
        "psnr_outlier",
        f"{subject.entry.pair.blur} is at {value:.1f} dB, {abs(deviation):.1f} deviations "
        f"{'below' if deviation < 0 else 'above'} the median of the data set, expected "
        f"{subject.rules.threshold('psnr_outlier'):g} at most",
        deviation,
    )


#: The first that finds something names the cause, so what explains the others comes first. Where
#: nothing can be seen nothing can be compared, and two scenes are neither swapped nor displaced.
_IN_ORDER: tuple[Callable[[Subject], Finding | None], ...] = (
    _unreadable, _size_differs, _too_small, _identical, _dark, _saturated, _flat,
    _different_content, _swapped, _misaligned, _psnr_low, _psnr_outlier,
)  # fmt: skip
