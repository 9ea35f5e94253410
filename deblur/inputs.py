"""What can be measured of one picture without a sharp one beside it, and what is usual of a set.

Measured in up to 16 patches of 128x128, spread evenly, at full resolution: scaled down, every
picture would look sharp. So a picture of 12 megapixels takes no longer than one of one.
``benchmarks/input_measures.py`` measures the errors that are stated here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deblur.errors import ModelFileError

#: Patches in a row and in a column, and their side in pixels.
_GRID, _SIDE = 4, 128
#: Below this side of a patch no blur is looked for.
_SMALLEST = 16
#: Luminance of red, green, blue: ITU-R BT.601.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: Part of its peak that a blur's autocorrelation falls to, see ``_blur_px``.
_LEVEL = 0.25
#: Directions in which it is followed: every 7.5 degrees.
_DIRECTIONS = 24
#: Squared luminance: what is less is no contrast, but rounding.
_FLAT = 1.0


@dataclass(frozen=True)
class Measured:
    """One picture. Every value is finite.

    Attributes:
        sharpness: see ``sharpness``.
        blur_px: extent of the motion blur in pixels; about 3 where there is none, 0 where nothing
            can be told: flat pictures, patches below 16 pixels. Between 4 and 32 pixels it is off
            by 2 in the median. Longer ones are taken for shorter, and rows of straight lines, as in
            brickwork, look blurred along them.
        noise: standard deviation of the noise in the green channel, in levels of 255.
        megapixels: width times height.
        brightness: mean luminance, 0 to 255.
    """

    sharpness: float
    blur_px: float
    noise: float
    megapixels: float
    brightness: float


#: What is measured.
QUANTITIES = tuple(Measured.__dataclass_fields__)


def measure(pixels: np.ndarray) -> Measured:
    """Measure a picture ``[H, W, 3]`` uint8, from 1x1 pixels on."""
    patches = _patches(pixels)
    grey = patches @ _LUMINANCE
    return Measured(
        sharpness=_sharpness(grey),
        blur_px=_blur_px(grey),
        noise=_noise(patches[..., 1]),
        megapixels=pixels.shape[0] * pixels.shape[1] / 1e6,
        brightness=float(grey.mean(dtype=np.float64)),
    )


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian of luminance, divided by the variance of luminance: from 0.

    The Laplacian's energy is what blur takes most of, and it costs a few additions; of 36 measures
    of focus compared by Pertuz, Puig and Garcia ("Analysis of focus measure operators for
    shape-from-focus", Pattern Recognition 46, 2013) those built on it did best on the whole.
    By itself it follows contrast as well; divided, a darker print of a picture has the same. Noise
    raises it.

    Args:
        pixels: ``[H, W, 3]`` uint8.
    """
    return _sharpness(_patches(pixels) @ _LUMINANCE)


def _patches(pixels: np.ndarray) -> np.ndarray:
    """``[N, h, w, 3]`` float32: all of a small picture, else patches spread evenly over it."""
    rows, columns = (_starts(length) for length in pixels.shape[:2])
    cut = [pixels[y : y + _SIDE, x : x + _SIDE] for y in rows for x in columns]
    return np.stack(cut).astype(np.float32)


def _starts(length: int) -> list[int]:
    last = max(0, length - _SIDE)
    return sorted({round(last * k / (_GRID - 1)) for k in range(_GRID)})


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape[1:]) < 3:
        return 0.0
    centre = grey[:, 1:-1, 1:-1]
    laplacian = (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * centre
    )
    contrast = grey.var(axis=(1, 2), dtype=np.float64).mean()
    energy = laplacian.var(axis=(1, 2), dtype=np.float64).mean()
    return float(energy / (contrast + _FLAT))


def _noise(channel: np.ndarray) -> float:
    """Immerkaer, "Fast noise variance estimation", CVIU 64, 1996, of each patch.

    Texture raises it, so of the patches the lower quartile counts: noise is everywhere, texture is
    not. Where much is black or white noise is clipped; such patches are left out while others
    remain.
    """
    if min(channel.shape[1:]) < 3:
        return 0.0
    clipped = ((channel <= 0) | (channel >= 255)).mean(axis=(1, 2))
    channel = channel[clipped <= max(0.05, clipped.min())]
    across = channel[:, :, :-2] - 2 * channel[:, :, 1:-1] + channel[:, :, 2:]
    both = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]
    spreads = math.sqrt(math.pi / 2) / 6 * np.abs(both).mean(axis=(1, 2), dtype=np.float64)
    return float(np.quantile(spreads, 0.25))


def _blur_px(grey: np.ndarray) -> float:
    """Extent of the blur, from the autocorrelation of what blur leaves of differences.

    Spectra of sharp photographs fall with the square of the frequency. Multiplied by it, that of a
    blurred one is the squared spectrum of its blur, and so its inverse transform the blur's
    autocorrelation (Goldstein and Fattal, "Blur-kernel estimation from spectral irregularities",
    ECCV 2012). Along a motion of L pixels it falls in a straight line to 0 at L, so that
    it reaches a part p of its peak at ``L (1 - p)``. The direction in which it reaches farthest is
    that of the motion.
    """
    height, width = grey.shape[1:]
    if min(height, width) < _SMALLEST or grey.var() < _FLAT:
        return 0.0
    window = np.outer(_hann(height), _hann(width))
    edged = (grey - grey.mean(axis=(1, 2), keepdims=True)) * window
    transformed = np.fft.rfft2(edged)
    power = (transformed.real**2 + transformed.imag**2).mean(axis=0)

    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    # Noise is as strong at all frequencies, and of the highest most is noise. Twice, as power
    # scatters about its mean.
    power = np.maximum(power - 2 * np.median(power[fy**2 + fx**2 > 0.2]), 0.0)
    power *= 4 - 2 * np.cos(2 * np.pi * fy) - 2 * np.cos(2 * np.pi * fx)
    correlation = np.fft.fftshift(np.fft.irfft2(power, s=(height, width)))
    peak = correlation[height // 2, width // 2]
    if peak <= 0:
        return 0.0
    return _reach(correlation / peak) / (1 - _LEVEL)


def _reach(correlation: np.ndarray) -> float:
    """The farthest from the centre that ``[H, W]`` first falls to ``_LEVEL``, in pixels."""
    height, width = correlation.shape
    distance = np.arange(0.0, min(height, width) // 2 - 1, 0.5)
    angle = np.arange(_DIRECTIONS)[:, None] * np.pi / _DIRECTIONS
    y, x = height // 2 + distance * np.sin(angle), width // 2 + distance * np.cos(angle)
    top, left = y.astype(int), x.astype(int)
    below, right = y - top, x - left
    values = (
        correlation[top, left] * (1 - below) * (1 - right)
        + correlation[top + 1, left] * below * (1 - right)
        + correlation[top, left + 1] * (1 - below) * right
        + correlation[top + 1, left + 1] * below * right
    )
    values[:, -1] = np.minimum(values[:, -1], _LEVEL / 2)  # what does not end, ends here
    first = (values < _LEVEL).argmax(axis=1)
    each = np.arange(_DIRECTIONS)
    before, after = values[each, first - 1], values[each, first]
    return float((distance[first - 1] + 0.5 * (before - _LEVEL) / (before - after)).max())


def _hann(length: int) -> np.ndarray:
    return np.hanning(length + 2)[1:-1].astype(np.float32)


@dataclass(frozen=True)
class Usual:
    """How one quantity is spread over a set of pictures.

    Attributes:
        edges: of bins, increasing: the deciles, with equal ones once, between a bound below the
            smallest value and one above the largest.
        counts: pictures in the bins. The first lies below the first edge, the last above the last
            one: nothing of the set lies in either.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def median(self) -> float:
        """Upper edge of the bin that holds it."""
        reached = np.cumsum(self.counts) >= sum(self.counts) / 2
        return self.edges[min(int(reached.argmax()), len(self.edges) - 1)]


@dataclass(frozen=True)
class Baseline:
    """What the pictures were like that a model's figures were measured on.

    Attributes:
        pictures: how many there were.
        usual: how each of ``QUANTITIES`` is spread over them.
    """

    pictures: int
    usual: Mapping[str, Usual]

    @classmethod
    def of(cls, measured: Iterable[Measured]) -> "Baseline":
        """The baseline of a set of at least one picture.

        Raises:
            ValueError: there is none.
        """
        rows = [asdict(one) for one in measured]
        if not rows:
            raise ValueError("expected at least one picture to make a baseline of, got none")
        return cls(len(rows), {q: _usual(np.array([row[q] for row in rows])) for q in QUANTITIES})

    def to_json(self) -> dict[str, Any]:
        """As plain values, below 2 kB of JSON."""
        usual = {
            name: {"edges": list(spread.edges), "counts": list(spread.counts)}
            for name, spread in self.usual.items()
        }
        return {"pictures": self.pictures, "usual": usual}

    @classmethod
    def from_json(cls, values: Any, source: str) -> "Baseline":
        """Read the baseline of the file ``source``.

        Raises:
            ModelFileError: it is not one, or of other quantities.
        """
        try:
            usual = {
                name: Usual(
                    tuple(float(edge) for edge in values["usual"][name]["edges"]),
                    tuple(int(count) for count in values["usual"][name]["counts"]),
                )
                for name in QUANTITIES
            }
            baseline = cls(int(values["pictures"]), usual)
            for name, spread in usual.items():
                _require_whole(name, spread, baseline.pictures)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(
                f"{source} has an unreadable baseline ({type(error).__name__}: {error}): expected "
                "edges and counts of each quantity; export its checkpoint again"
            ) from None
        return baseline


def _require_whole(name: str, usual: Usual, pictures: int) -> None:
    """Raise a ``ValueError`` for bins that do not fit together."""
    if len(usual.counts) != len(usual.edges) + 1 or len(usual.edges) < 2:
        raise ValueError(f"{len(usual.edges)} edges and {len(usual.counts)} counts of {name}")
    if not all(map(math.isfinite, usual.edges)) or not np.all(np.diff(usual.edges) > 0):
        raise ValueError(f"the edges of {name} do not increase")
    if min(usual.counts) < 0 or sum(usual.counts) != pictures or pictures < 1:
        raise ValueError(f"{sum(usual.counts)} counts of {name}, of {pictures} pictures")


def _usual(values: np.ndarray) -> Usual:
    # Of few pictures fewer bins, so that each holds ten.
    bins = min(10, max(2, len(values) // 10))
    ordered = np.sort(values).tolist()
    lowest, highest = ordered[0], ordered[-1]
    inner = [ordered[-(-len(ordered) * k // bins) - 1] for k in range(1, bins)]
    # Beyond what was seen by a little: the next picture of the kind may be there.
    margin = 0.05 * (highest - lowest) + 1e-3 * max(abs(highest), abs(lowest), 1e-3)
    bounds = [lowest - margin, *inner, highest + margin]
    # Short in JSON, and the same on machines whose sums differ in the last digit.
    edges = np.unique([float(f"{bound:.6g}") for bound in bounds])
    counts = np.bincount(bin_of(values, edges), minlength=len(edges) + 1)
    return Usual(tuple(edges.tolist()), tuple(counts.tolist()))


def bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which bin each value lies in: in bin i if ``edges[i - 1] < value <= edges[i]``."""
    # Rounded as the edges are: a value that became an edge stays on its side.
    rounded = np.array([float(f"{value:.6g}") for value in np.atleast_1d(values)])
    return np.searchsorted(edges, rounded, side="left")
