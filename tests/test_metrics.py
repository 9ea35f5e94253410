"""Golden values: equal to scikit-image's to 1e-6."""

import numpy as np
import pytest
from skimage import metrics as reference

from deblur.metrics import psnr, ssim


def noisy(picture: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, strength, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("strength", [1.0, 12.0, 60.0])
def test_psnr_equals_scikit_image(photograph: np.ndarray, strength: float) -> None:
    worse = noisy(photograph, strength)
    expected = reference.peak_signal_noise_ratio(photograph, worse, data_range=255)
    assert psnr(worse, photograph) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("strength", [1.0, 12.0, 60.0])
def test_ssim_equals_scikit_image(photograph: np.ndarray, strength: float) -> None:
    worse = noisy(photograph, strength)
    expected = reference.structural_similarity(
        photograph, worse, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=255,
    )  # fmt: skip
    assert ssim(worse, photograph) == pytest.approx(expected, abs=1e-6)


def test_psnr_of_one_grey_level_everywhere_is_48_13_db() -> None:
    flat = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(flat + 1, flat) == pytest.approx(48.1308, abs=1e-4)


def test_equal_pictures_are_perfect(photograph: np.ndarray) -> None:
    assert psnr(photograph, photograph) == float("inf")
    assert ssim(photograph, photograph) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("bad", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8)])
def test_anything_but_rgb_uint8_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\] uint8"):
        psnr(bad, bad)


def test_pictures_of_different_size_are_refused(photograph: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differ in size"):
        ssim(photograph, photograph[:-1])
