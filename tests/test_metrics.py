"""Golden values: equal to scikit-image's, and to a volume's SSIM by other means, to 1e-6."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics as reference

from deblur.metrics import psnr, quality, ssim, ssim_matlab3d


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


def similarity_map(x: np.ndarray, y: np.ndarray, mean: object) -> np.ndarray:
    """The formula of SSIM as it stands in the paper, with any weighted mean."""
    assert callable(mean)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 6.5025, 58.5225
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return top / ((mx**2 + my**2 + c1) * (vx + vy + c2))


@pytest.mark.parametrize("strength", [1.0, 12.0, 60.0])
def test_the_volume_ssim_equals_scipys_gaussian_filter_over_three_axes(
    photograph: np.ndarray, strength: float
) -> None:
    worse = noisy(photograph, strength)

    def mean(volume: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(volume, sigma=1.5, radius=5, mode="nearest")

    expected = similarity_map(worse.astype(float), photograph.astype(float), mean).mean()
    assert ssim_matlab3d(worse, photograph) == pytest.approx(expected, abs=1e-6)


def test_the_volume_ssim_equals_a_replicating_three_dimensional_convolution(
    detail: np.ndarray,
) -> None:
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    line /= line.sum()
    window = torch.from_numpy(np.einsum("i,j,k->ijk", line, line, line))[None, None]

    def mean(volume: np.ndarray) -> np.ndarray:
        padded = torch.nn.functional.pad(
            torch.from_numpy(volume)[None, None], (5,) * 6, mode="replicate"
        )
        return torch.nn.functional.conv3d(padded, window)[0, 0].numpy()

    worse = noisy(detail, 25.0)
    expected = similarity_map(worse.astype(float), detail.astype(float), mean).mean()
    assert ssim_matlab3d(worse, detail) == pytest.approx(expected, abs=1e-9)


def test_the_two_families_of_ssim_differ(photograph: np.ndarray) -> None:
    worse = noisy(photograph, 30.0)
    assert abs(ssim_matlab3d(worse, photograph) - ssim(worse, photograph)) > 0.01


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 32), (33, 31), (65, 12)])
def test_the_volume_ssim_takes_any_size_and_bands_do_not_show(
    photograph: np.ndarray, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharp = photograph[: size[0], : size[1]]
    worse = noisy(sharp, 20.0)
    found = ssim_matlab3d(worse, sharp)
    monkeypatch.setattr("deblur.metrics._BAND", 1000)
    assert ssim_matlab3d(worse, sharp) == pytest.approx(found, abs=1e-12)
    assert 0.0 < found < 1.0


def test_quality_takes_the_volume_ssim_only_where_it_is_asked_for(detail: np.ndarray) -> None:
    worse = noisy(detail, 20.0)
    assert quality(worse, detail).ssim_matlab3d is None
    full = quality(worse, detail, matlab3d=True)
    assert full.ssim_matlab3d == ssim_matlab3d(worse, detail)
    assert (full.psnr, full.ssim) == (psnr(worse, detail), ssim(worse, detail))


def test_psnr_of_one_grey_level_everywhere_is_48_13_db() -> None:
    flat = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(flat + 1, flat) == pytest.approx(48.1308, abs=1e-4)


def test_equal_pictures_are_perfect(photograph: np.ndarray) -> None:
    assert psnr(photograph, photograph) == float("inf")
    assert ssim(photograph, photograph) == pytest.approx(1.0, abs=1e-12)
    assert ssim_matlab3d(photograph, photograph) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("bad", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8)])
def test_anything_but_rgb_uint8_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \[H, W, 3\] uint8"):
        psnr(bad, bad)


def test_pictures_of_different_size_are_refused(photograph: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differ in size"):
        ssim(photograph, photograph[:-1])
