"""PSNR and SSIM with one exact definition each, equal to scikit-image's to 1e-6.

Both take pictures as they are delivered: RGB, 8 bit. What a network returns is clamped and rounded
to uint8 first (``deblur.images.to_uint8``), so a figure is that of the picture a user gets.
"""

from dataclasses import dataclass

import numpy as np

PEAK = 255.0
_RADIUS = 5
_SIGMA = 1.5
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


@dataclass(frozen=True)
class Quality:
    """How close a picture is to its sharp original: PSNR in dB and SSIM."""

    psnr: float
    ssim: float


def quality(result: np.ndarray, sharp: np.ndarray) -> Quality:
    """PSNR and SSIM of ``result`` against ``sharp``, both ``[H, W, 3]`` uint8."""
    return Quality(psnr(result, sharp), ssim(result, sharp))


def psnr(result: np.ndarray, sharp: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(255^2 / MSE)`` over all pixels and channels.

    Infinite for equal pictures. The figure of a set is the mean of its pictures' values.

    Args:
        result, sharp: ``[H, W, 3]`` uint8.
    """
    _check(result, sharp)
    error = np.mean((result.astype(np.float64) - sharp.astype(np.float64)) ** 2)
    return float("inf") if error == 0.0 else float(10.0 * np.log10(PEAK**2 / error))


def ssim(result: np.ndarray, sharp: np.ndarray) -> float:
    """Structural similarity, per channel and then averaged.

    Gaussian window 11x11 with sigma 1.5, population covariance, K1 0.01, K2 0.03, only where the
    window fits: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", TIP 2004, section III.B. Equals scikit-image's ``structural_similarity(...,
    channel_axis=-1, gaussian_weights=True, use_sample_covariance=False)``.

    Args:
        result, sharp: ``[H, W, 3]`` uint8, at least 11x11.
    """
    _check(result, sharp)
    if min(result.shape[:2]) < 2 * _RADIUS + 1:
        raise ValueError(
            f"SSIM needs at least 11x11 pixels, got {result.shape[0]}x{result.shape[1]}"
        )
    return float(np.mean([_ssim_channel(result[..., c], sharp[..., c]) for c in range(3)]))


def _ssim_channel(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x * mean_x
    var_y = _window_mean(y * y) - mean_y * mean_y
    cov = _window_mean(x * y) - mean_x * mean_y
    top = (2.0 * mean_x * mean_y + _C1) * (2.0 * cov + _C2)
    return float(np.mean(top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))))


def _window_mean(channel: np.ndarray) -> np.ndarray:
    """Gaussian mean wherever the window fits: ``[H, W]`` to ``[H - 10, W - 10]``."""
    height, width = channel.shape[0] - 2 * _RADIUS, channel.shape[1] - 2 * _RADIUS
    rows = np.zeros((height, channel.shape[1]))
    for shift, share in enumerate(_KERNEL):
        rows += share * channel[shift : shift + height]
    out = np.zeros((height, width))
    for shift, share in enumerate(_KERNEL):
        out += share * rows[:, shift : shift + width]
    return out


def _gaussian_kernel() -> np.ndarray:
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return kernel / kernel.sum()


_KERNEL = _gaussian_kernel()


def _check(result: np.ndarray, sharp: np.ndarray) -> None:
    for name, picture in (("result", result), ("sharp", sharp)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{name} must be [H, W, 3] uint8, got {picture.shape} {picture.dtype}")
    if result.shape != sharp.shape:
        raise ValueError(f"pictures differ in size: {result.shape} and {sharp.shape}")
