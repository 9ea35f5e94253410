"""By how much a blurred picture is displaced, and whether it shows the same scene at all.

The displacement is the peak of a generalised cross-correlation (Kuglin and Hines, "The phase
correlation image alignment method", ICCS 1975), with two differences that motion blur asks for.
The transform of a line of motion changes its sign from one lobe to the next, and whitening, which
gives all lobes the same weight, moves the peak to an end of the line: 10 px off at 40 px. So the
cross-spectrum is divided by the sharp picture's spectrum alone (Roth's weighting in Knapp and
Carter, "The generalized correlation method for estimation of time delay", ASSP 1976), which keeps
the lobes as weak as the blur made them, and a Gaussian keeps little but the first. What comes back
is the smoothed path of the camera, and its centre of mass is the displacement.

The similarity is the magnitude-squared coherence (Carter, "Coherence and time delay estimation",
Proceedings of the IEEE, 1987): the share of the blurred picture that some linear filter makes from
the sharp one, whatever the blur.
"""

from dataclasses import dataclass

import numpy as np

#: Both pictures are reduced until their longer side is about as many pixels: the shift is looked
#: for among frequencies that survive.
_SIDE = 320
#: Pictures with fewer pixels on a side tell nothing.
SMALLEST = 32
#: Deviation of the Gaussian in cycles per pixel. 40 px of motion have their first zero at 1/40.
_SIGMA = 1 / 70
#: At least as many cycles per picture, or nothing but the window would remain.
_FEWEST_CYCLES = 1.5
#: Keeps frequencies out that the sharp picture lacks, as a share of its mean power.
_FLOOR = 1e-3
#: The peak's part that counts in its centre of mass: above half its height, and this near.
_REACH = 24
#: Highest frequency of the coherence in cycles per pixel, or per picture where that is more, and
#: its average over (2n + 1)^2 bins.
_HIGHEST, _HIGHEST_CYCLES, _BINS = 1 / 16, 8, 2


@dataclass(frozen=True)
class Alignment:
    """How two pictures lie to each other.

    Attributes:
        dx, dy: pixels by which the blurred picture's content lies right of and below the sharp's.
        similarity: coherence, 0 to 1: below 0.3 for two scenes, above 0.5 for one, unless
            it is small and extremely blurred.
    """

    dx: float
    dy: float
    similarity: float


def align(blurred: np.ndarray, sharp: np.ndarray) -> Alignment | None:
    """Measure displacement and similarity.

    Args:
        blurred, sharp: ``[H, W]`` float32, of equal shape.

    Returns:
        ``None`` where it cannot be told: smaller than ``SMALLEST``, or without any structure.
    """
    factor = max(1, round(max(sharp.shape) / _SIDE))
    blurred, sharp = box_reduced(blurred, factor), box_reduced(sharp, factor)
    if min(sharp.shape) < SMALLEST or min(float(blurred.std()), float(sharp.std())) < 1e-3:
        return None
    x, y = _peak(blurred, sharp, factor * _SIGMA)
    # The window pulls the peak towards 0, so what overlaps is looked at once more.
    column, row = round(x), round(y)
    overlap = _overlap(blurred, sharp, column, row)
    if (column, row) != (0, 0) and min(overlap[0].shape) >= SMALLEST:
        more_x, more_y = _peak(*overlap, factor * _SIGMA)
        x, y = column + more_x, row + more_y
    else:
        overlap = blurred, sharp
    return Alignment(x * factor, y * factor, _coherence(*overlap, factor * _HIGHEST))


def box_reduced(grey: np.ndarray, factor: int) -> np.ndarray:
    """Means of ``factor x factor`` blocks: ``[H, W]`` to ``[H // factor, W // factor]``."""
    if factor == 1:
        return grey
    height, width = (side // factor for side in grey.shape)
    cut = grey[: height * factor, : width * factor]
    return cut.reshape(height, factor, width, factor).mean(axis=(1, 3))


def _peak(blurred: np.ndarray, sharp: np.ndarray, sigma: float) -> tuple[float, float]:
    """Displacement (x, y) of what is given; ``sigma`` in cycles per pixel of it."""
    height, width = sharp.shape
    sigma = max(sigma, _FEWEST_CYCLES / min(sharp.shape))
    of_blurred, of_sharp = (np.fft.rfft2(_windowed(grey)) for grey in (blurred, sharp))
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    weight = np.exp(-(down**2 + right**2) / (2 * sigma**2)).astype(np.float32)
    power = np.abs(of_sharp) ** 2
    floor = _FLOOR * (power * weight).sum() / weight.sum()
    path = np.fft.irfft2(weight * of_blurred * of_sharp.conj() / (power + floor), s=sharp.shape)
    y, x = (int(i) for i in np.unravel_index(int(path.argmax()), path.shape))
    reach = max(2, min(round(_REACH * _SIGMA / sigma), min(path.shape) // 4))
    rows, columns = ((at + np.arange(-reach, reach + 1)) for at in (y, x))
    near = path[np.ix_(rows % height, columns % width)]
    mass = np.maximum(near - 0.5 * near[reach, reach], 0.0)
    mass /= mass.sum()
    x_mean, y_mean = float(mass.sum(axis=0) @ columns), float(mass.sum(axis=1) @ rows)
    return (x_mean + width / 2) % width - width / 2, (y_mean + height / 2) % height - height / 2


def _overlap(
    blurred: np.ndarray, sharp: np.ndarray, x: int, y: int
) -> tuple[np.ndarray, np.ndarray]:
    """What both show, when the blurred picture's content lies (x, y) pixels right and below."""
    height, width = sharp.shape
    return (
        blurred[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)],
        sharp[max(0, -y) : height + min(0, -y), max(0, -x) : width + min(0, -x)],
    )


def _coherence(blurred: np.ndarray, sharp: np.ndarray, highest: float) -> float:
    height, width = sharp.shape
    highest = max(highest, _HIGHEST_CYCLES / min(sharp.shape))
    down = np.fft.fftshift(np.fft.fftfreq(height))
    right = np.fft.fftshift(np.fft.fftfreq(width))
    rows, columns = np.abs(down) < highest, np.abs(right) < highest
    box = np.ix_(rows, columns)
    of_blurred, of_sharp = (
        np.fft.fftshift(np.fft.fft2(_windowed(grey)))[box] for grey in (blurred, sharp)
    )
    common = np.abs(_averaged(of_blurred * of_sharp.conj())) ** 2
    powers = _averaged(np.abs(of_blurred) ** 2) * _averaged(np.abs(of_sharp) ** 2)
    share = common / np.maximum(powers, 1e-20)
    frequency = np.hypot(down[rows][:, None], right[columns][None])
    # The average is taken where it fits. The mean level was taken off, so it says nothing.
    frequency = frequency[_BINS:-_BINS, _BINS:-_BINS]
    counts = (frequency < highest) & (frequency > _FEWEST_CYCLES / min(sharp.shape))
    return float(share[counts].mean())


def _averaged(spectrum: np.ndarray) -> np.ndarray:
    """Mean over (2 * _BINS + 1)^2 neighbouring frequencies, where they all exist."""
    side = 2 * _BINS + 1
    windows = np.lib.stride_tricks.sliding_window_view(spectrum, (side, side))
    return windows.mean(axis=(2, 3))


def _windowed(grey: np.ndarray) -> np.ndarray:
    """Without its mean, under a Hann window that ends above 0."""
    rows, columns = (np.hanning(side + 2)[1:-1] for side in grey.shape)
    window = np.outer(rows, columns).astype(np.float32)
    return (grey - (grey * window).sum() / window.sum()) * window
