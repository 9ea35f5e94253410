"""Optical flow between the frames of a video, and the frames in between.

The flow is dense inverse search: Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow using Dense
Inverse Search", ECCV 2016, as OpenCV has it. A frame in between is taken from both neighbours by
backward warping and blended: Jiang, Sun, Jampani, Yang, Learned-Miller and Kautz, "Super SloMo:
High Quality Estimation of Multiple Intermediate Frames for Video Interpolation", CVPR 2018,
sections 3.1 and 3.2, with a forward-backward check in place of its learned visibility.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from deblur.errors import SetupError

#: What a neighbour counts where its pixel was not found in the other: less, but not nothing. On
#: textures that move 8 px over one another 0.3 gives 41.0 dB, no check 40.7 and 0.001 40.1.
_UNSEEN = 0.3
#: Softens the edge between seen and unseen, in pixels of standard deviation.
_SOFT = 1.5
#: Pixel values that differ by more than this, of 255, look different.
_DIFFERENT = 10
#: Percentile of the pixels' motions that stands for the fastest thing in the picture; what lies
#: above is mostly stray vectors.
FASTEST = 99.0


@dataclass(frozen=True)
class Motion:
    """How the picture moves from frame ``a`` to frame ``b``.

    Attributes:
        forward, backward: displacement (x, y) in pixels from a to b and from b to a,
            ``[H, W, 2]`` float32.
        seen_a, seen_b: how far a pixel of that frame is found again in the other one, ``[H, W]``
            float32 from 0 to 1, with soft edges.
        unreliable: share of the pixels that are not found again and look different from those
            that the flow leads to, 0 to 1. Where all is of one colour any flow will do.
    """

    forward: np.ndarray
    backward: np.ndarray
    seen_a: np.ndarray
    seen_b: np.ndarray
    unreliable: float

    @property
    def fastest(self) -> float:
        """Displacement in pixels that all but the fastest hundredth of the picture stay below."""
        return percentile_length(self.forward)


class OpticalFlow:
    """Measures motion between frames of one size.

    Args:
        precise: for frames to be interpolated; otherwise five times faster, for measuring alone.

    Raises:
        SetupError: OpenCV is missing.
    """

    def __init__(self, precise: bool = True) -> None:
        cv2 = load_cv2()
        preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if precise else cv2.DISOPTICAL_FLOW_PRESET_FAST
        self._flow = cv2.DISOpticalFlow_create(preset)

    def motion(self, a: np.ndarray, b: np.ndarray) -> Motion:
        """The motion between two frames, ``[H, W, 3]`` uint8 each.

        A pixel is found again where forward and backward flow cancel:
        ``|f + g|^2 < 0.01 (|f|^2 + |g|^2) + 0.5`` with g read at the place where f leads. Sundaram,
        Brox and Keutzer, "Dense Point Trajectories by GPU-accelerated Large Displacement Optical
        Flow", ECCV 2010, equation 5.
        """
        cv2 = load_cv2()
        grey_a, grey_b = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (a, b))
        forward = self._flow.calc(grey_a, grey_b, None)
        backward = self._flow.calc(grey_b, grey_a, None)
        seen_a, seen_b = _seen(forward, backward), _seen(backward, forward)
        lost_a = (1 - seen_a) * _differs(grey_a, grey_b, forward)
        lost_b = (1 - seen_b) * _differs(grey_b, grey_a, backward)
        unreliable = 0.5 * float(lost_a.mean() + lost_b.mean())
        soft_a, soft_b = (cv2.GaussianBlur(seen, (0, 0), _SOFT) for seen in (seen_a, seen_b))
        return Motion(forward, backward, soft_a, soft_b, unreliable)


def between(a: np.ndarray, b: np.ndarray, motion: Motion, time: float) -> np.ndarray:
    """The frame at ``time`` between two frames.

    With f and g the flow forward and backward and t the time (Super SloMo, equations 4 and 1):

        from a: F_a = -(1 - t) t f + t^2 g        from b: F_b = (1 - t)^2 f - t (1 - t) g
        frame = ((1 - t) V_a a(x + F_a) + t V_b b(x + F_b)) / ((1 - t) V_a + t V_b)

    where V is 1 for a pixel that is seen in both frames and ``_UNSEEN`` for one that is covered in
    the other, or that lies beyond the border.

    Args:
        a, b: ``[H, W, 3]`` uint8.
        motion: from a to b.
        time: 0 for a to 1 for b.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    cv2 = load_cv2()
    t, f, g = np.float32(time), motion.forward, motion.backward
    pixels, weights = [], []
    for frame, seen, flow, share in (
        (a, motion.seen_a, t * t * g - (1 - t) * t * f, 1 - t),
        (b, motion.seen_b, (1 - t) ** 2 * f - t * (1 - t) * g, t),
    ):
        places = _grid(*a.shape[:2]) + flow
        # Cubic: a linear kernel would blur the sub-frames between pixels, not those on them.
        pixels.append(
            cv2.remap(frame, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        )
        visible = cv2.remap(seen, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        weights.append(share * (_UNSEEN + (1 - np.float32(_UNSEEN)) * visible))
    return cv2.blendLinear(*pixels, *weights)


def percentile_length(vectors: np.ndarray) -> float:
    """Length that ``FASTEST`` percent of the vectors ``[H, W, 2]`` stay below."""
    return float(np.percentile(np.hypot(vectors[..., 0], vectors[..., 1]), FASTEST))


def load_cv2() -> Any:
    """OpenCV.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise SetupError(
            f"optical flow needs OpenCV, which cannot be imported ({error}): "
            "pip install -e '.[video]'"
        ) from None
    return cv2


def _seen(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    cv2 = load_cv2()
    places = _grid(*flow.shape[:2]) + flow
    returned = cv2.remap(back, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = _squared(flow + returned)
    allowed = 0.01 * (_squared(flow) + _squared(returned)) + 0.5
    return (missed < allowed).astype(np.float32)


def _squared(vectors: np.ndarray) -> np.ndarray:
    # Six times faster than a sum over an axis of two.
    return vectors[..., 0] ** 2 + vectors[..., 1] ** 2


def _differs(grey: np.ndarray, other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Whether pixels differ from those of ``other`` that ``flow`` leads to."""
    cv2 = load_cv2()
    places = _grid(*grey.shape) + flow
    led_to = cv2.remap(other, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.absdiff(grey, led_to) > _DIFFERENT


@lru_cache(maxsize=1)
def _grid(height: int, width: int) -> np.ndarray:
    """The places (x, y) of all pixels, ``[H, W, 2]`` float32."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1)
