"""A figure with its bound."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """A measured figure that has to keep a bound.

    Attributes:
        name: short and stable, as ``flat_field``.
        value: what was measured; NaN keeps no bound.
        kind: whether ``bound`` is the largest or the smallest value allowed.
        bound: the value that is just allowed.
        unit: of both, as ``dB`` or ``levels``; empty for ratios.
        about: what was measured, on what, in one sentence.
    """

    name: str
    value: float
    kind: Literal["at most", "at least"]
    bound: float
    unit: str
    about: str

    @property
    def passed(self) -> bool:
        if self.kind == "at most":
            return self.value <= self.bound
        return self.value >= self.bound

    def sentence(self) -> str:
        """As ``flat_field 0.4 levels, allowed at most 1 levels: passed``."""
        unit = f" {self.unit}" if self.unit else ""
        verdict = "passed" if self.passed else "failed"
        return (
            f"{self.name} {self.value:.3g}{unit}, allowed {self.kind} {self.bound:g}{unit}: "
            f"{verdict}"
        )
