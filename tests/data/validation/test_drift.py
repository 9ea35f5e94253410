"""The Kolmogorov-Smirnov test gives scipy's values."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from deblur.data.validation.drift import compare

SIZES = [(1, 1, 0.0), (3, 5, 0.0), (8, 8, 9.0), (12, 30, 0.5), (100, 80, 0.8), (200, 300, 0.1)]


@pytest.mark.parametrize(("n", "m", "apart"), SIZES)
def test_small_samples_are_counted_exactly(n: int, m: int, apart: float) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(0, 1, n), rng.normal(apart, 1, m)
    found, known = compare(first, second), ks_2samp(first, second, method="exact")
    assert found.distance == pytest.approx(known.statistic, abs=1e-12)
    assert found.p == pytest.approx(known.pvalue, rel=1e-9)


@pytest.mark.parametrize("apart", [0.0, 0.05, 0.1])
def test_large_samples_come_within_two_percent(apart: float) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 3000), rng.normal(apart, 1, 2000)
    found, known = compare(first, second), ks_2samp(first, second, method="exact")
    assert found.distance == pytest.approx(known.statistic, abs=1e-12)
    assert found.p == pytest.approx(known.pvalue, rel=0.02)


def test_equal_values_and_equal_samples_are_no_difference() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0])
    assert (compare(values, values).distance, compare(values, values).p) == (0.0, 1.0)
    assert compare(np.full(9, 5.0), np.full(4, 5.0)).p == 1.0


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value each"):
        compare(np.array([]), np.array([1.0]))
