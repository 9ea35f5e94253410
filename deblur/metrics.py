"""PSNR and SSIM, each with one exact definition; docs/metrics.md has them side by side.

All take pictures as they are delivered: RGB, 8 bit. What a network returns is clamped and rounded
to uint8 first (``deblur.images.to_uint8``), so a figure is that of the picture a user gets.
"""

from dataclasses import dataclass

import numpy as np

PEAK = 255.0
_RADIUS = 5
_SIGMA = 1.5
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
#: Rows that ``ssim_matlab3d`` works on at a time: what they need stays in the processor's cache.
_BAND = 32


@dataclass(frozen=True)
class Quality:
    """How close a picture is to its sharp original: PSNR in dB, SSIM, and the volume's SSIM if it
    was asked for."""

    psnr: float
    ssim: float
    ssim_matlab3d: float | None = None


def quality(result: np.ndarray, sharp: np.ndarray, matlab3d: bool = False) -> Quality:
    """PSNR and SSIM of ``result`` against ``sharp``, both ``[H, W, 3]`` uint8.

    Args:
        result, sharp: the pictures.
        matlab3d: whether to take ``ssim_matlab3d`` as well, which takes as long as the others.
    """
    volume = ssim_matlab3d(result, sharp) if matlab3d else None
    return Quality(psnr(result, sharp), ssim(result, sharp), volume)


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


def ssim_matlab3d(result: np.ndarray, sharp: np.ndarray) -> float:
    """Structural similarity of RGB pictures taken as volumes, as papers on deblurring report it.

    MATLAB's ``ssim(A, B)`` takes an array of H x W x 3 for a volume: one Gaussian window 11x11x11
    with sigma 1.5 over rows, columns and channels, borders replicated in all three, population
    covariance, K1 0.01, K2 0.03 for a peak of 255, mean over the whole volume. The evaluation of
    MPRNet calls it; ``_ssim_3d`` of NAFNet's ``basicsr/metrics/psnr_ssim.py`` and
    mayorx/matlab_ssim_pytorch_implementation repeat it in float32, this in float64.

    Args:
        result, sharp: ``[H, W, 3]`` uint8, of any size.
    """
    _check(result, sharp)
    height, width = sharp.shape[:2]
    border = ((0, 0), (_RADIUS, _RADIUS), (_RADIUS, _RADIUS))
    x, y = (np.pad(picture.transpose(2, 0, 1), border, "edge") for picture in (result, sharp))
    total = 0.0
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height) + 2 * _RADIUS)
        total += _volume_similarity(x[:, rows].astype(np.float64), y[:, rows].astype(np.float64))
    return total / (3 * height * width)


def _volume_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Sum of the similarities at all places of ``[3, H, W]`` where the window fits into H and W."""
    moments = _window_mean(np.stack([x, y, x * x + y * y, x * y]))
    mean_x, mean_y, squares, product = np.einsum("ij,mjhw->mihw", _ACROSS_CHANNELS, moments)
    both, cross = mean_x**2 + mean_y**2, mean_x * mean_y
    top = (2.0 * cross + _C1) * (2.0 * (product - cross) + _C2)
    return float(np.sum(top / ((both + _C1) * (squares - both + _C2))))


def _ssim_channel(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x * mean_x
    var_y = _window_mean(y * y) - mean_y * mean_y
    cov = _window_mean(x * y) - mean_x * mean_y
    top = (2.0 * mean_x * mean_y + _C1) * (2.0 * cov + _C2)
    return float(np.mean(top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))))


def _window_mean(planes: np.ndarray) -> np.ndarray:
    """Gaussian mean wherever the window fits: ``[..., H, W]`` to ``[..., H - 10, W - 10]``."""
    *leading, full_height, full_width = planes.shape
    height, width = full_height - 2 * _RADIUS, full_width - 2 * _RADIUS
    rows = np.zeros((*leading, height, full_width))
    for shift, share in enumerate(_KERNEL):
        rows += share * planes[..., shift : shift + height, :]
    out = np.zeros((*leading, height, width))
    for shift, share in enumerate(_KERNEL):
        out += share * rows[..., shift : shift + width]
    return out


def _gaussian_kernel() -> np.ndarray:
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return kernel / kernel.sum()


_KERNEL = _gaussian_kernel()


def _across_channels() -> np.ndarray:
    """The window across three channels with replicated borders, as a matrix ``[3, 3]``."""
    shares = np.zeros((3, 3))
    for channel in range(3):
        for offset, share in enumerate(_KERNEL, -_RADIUS):
            shares[channel, min(max(channel + offset, 0), 2)] += share
    return shares


_ACROSS_CHANNELS = _across_channels()


def _check(result: np.ndarray, sharp: np.ndarray) -> None:
    for name, picture in (("result", result), ("sharp", sharp)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{name} must be [H, W, 3] uint8, got {picture.shape} {picture.dtype}")
    if result.shape != sharp.shape:
        raise ValueError(f"pictures differ in size: {result.shape} and {sharp.shape}")
