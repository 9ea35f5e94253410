"""What a check says, and on which pairs it may say it."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from deblur.data.listing import Pair
from deblur.data.validation.config import ValidationConfig, advice
from deblur.data.validation.measure import PairMeasures


@dataclass(frozen=True)
class Entry:
    """A pair, the split it is in and what was measured on it."""

    split: str
    pair: Pair
    measures: PairMeasures

    @property
    def pictures(self) -> tuple[str, str]:
        return str(self.pair.blur), str(self.pair.sharp)

    @property
    def title(self) -> str:
        return f"{self.pair.scene}/{self.pair.name}"

    @property
    def readable(self) -> bool:
        return self.measures.blur.error is None and self.measures.sharp.error is None

    @property
    def has_scene(self) -> bool:
        """Whether the data set has scenes: without, each picture counts as one of its own name."""
        return self.pair.scene != PurePosixPath(self.pair.name).stem


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: a name of ``config.CHECKS``.
        severity: ``error`` or ``warning``.
        message: what was found and what was expected.
        advice: what to do about it.
        split: where; empty if it concerns the whole data set.
        pictures: addresses of the pictures concerned, the faulty one first.
        value: what was measured, in the unit of the check's threshold.
    """

    check: str
    severity: str
    message: str
    advice: str
    split: str = ""
    pictures: tuple[str, ...] = ()
    value: float | None = None


class Rules:
    """The configuration as the checks ask for it."""

    def __init__(self, config: ValidationConfig) -> None:
        self.config = config

    def on(self, check: str) -> bool:
        return bool(getattr(self.config, check).severity != "off")

    def threshold(self, check: str) -> float:
        return float(getattr(self.config, check).threshold)

    def finding(
        self,
        check: str,
        message: str,
        split: str = "",
        pictures: tuple[str, ...] = (),
        value: float | None = None,
    ) -> Finding:
        severity = getattr(self.config, check).severity
        shown = None if value is None else round(value, 4)
        return Finding(check, severity, message, advice(check), split, pictures, shown)
