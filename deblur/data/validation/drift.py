"""Whether two samples come from the same distribution: Kolmogorov and Smirnov's test.

Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 1958:
under the null hypothesis every order of the merged samples is equally likely, so the probability
is a count of lattice paths that stay near the diagonal, section 2; for large samples the limit
with Stephens's correction, as in Press et al., "Numerical Recipes", third edition, section 14.3.3.
"""

from dataclasses import dataclass

import numpy as np

#: Largest product of the sample sizes that is counted exactly: a tenth of a second.
_EXACT = 500_000


@dataclass(frozen=True)
class Comparison:
    """``distance``: largest gap between the two cumulative shares, 0 to 1; ``p``: probability of
    one as large by chance."""

    distance: float
    p: float


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """The two-sided test on two samples of any sizes, ``[N]`` and ``[M]``.

    Equal values make the probability too large, never too small.

    Raises:
        ValueError: a sample is empty.
    """
    first, second = np.sort(first), np.sort(second)
    n, m = len(first), len(second)
    if n == 0 or m == 0:
        raise ValueError("expected two samples of at least one value each")
    merged = np.concatenate([first, second])
    # Gaps in units of 1 / (n m), so that they compare exactly.
    gaps = (
        np.searchsorted(first, merged, "right") * m - np.searchsorted(second, merged, "right") * n
    )
    gap = int(np.abs(gaps).max())
    p = _exact(n, m, gap) if n * m <= _EXACT else _limit(n, m, gap / (n * m))
    return Comparison(gap / (n * m), p)


def _exact(n: int, m: int, gap: int) -> float:
    """Share of the paths from (0, 0) to (n, m) with ``|i m - j n| >= gap`` somewhere."""
    if gap == 0:
        return 1.0
    # staying[j]: share of the paths to (i, j) that stay inside. A path comes to (i, j) from
    # (i - 1, j) with probability i / (i + j) and from (i, j - 1) with j / (i + j), so that numbers
    # neither overflow nor vanish; their complement is summed, for small probabilities to be exact.
    leaving = np.zeros(m + 1)
    columns = np.arange(m + 1)
    for i in range(n + 1):
        outside = np.abs(i * m - columns * n) >= gap
        row = np.where(outside, 1.0, 0.0)
        inside = np.flatnonzero(~outside)
        if i == 0:
            # One path goes along the edge: it has left once and for all.
            leaving = np.maximum.accumulate(row)
            continue
        value = 1.0 if inside.size and inside[0] > 0 else 0.0
        for j in inside:
            above = leaving[j] * i / (i + j)
            value = above + (value * j / (i + j) if j > 0 else 0.0)
            row[j] = value
        leaving = row
    return float(min(1.0, leaving[m]))


def _limit(n: int, m: int, distance: float) -> float:
    effective = np.sqrt(n * m / (n + m))
    at = float((effective + 0.12 + 0.11 / effective) * distance)
    if at < 0.2:
        return 1.0  # to 12 digits, where the sum converges slowly
    k = np.arange(1, 101)
    terms = 2.0 * (-1.0) ** (k - 1) * np.exp(-2.0 * (k * at) ** 2)
    return float(np.clip(terms.sum(), 0.0, 1.0))
