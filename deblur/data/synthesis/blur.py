"""Motion blur along a smooth random camera path, as a high-speed camera would record it.

A camera that shakes for the length of one exposure sees many sharp sub-frames; the sensor adds
them up. So does this module: it moves the sharp picture along a path of translation, roll and, if
asked for, pan and tilt, and averages. GOPRO_Large offers two averages of the same sub-frames, and
so do we:

``blur``        the plain mean of pixel values (the sensor is taken to be linear);
``blur_gamma``  the mean in linear light with gamma 2.2, then back to pixel values.

Nah, Kim and Lee, "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring",
CVPR 2017, section 2.

A picture holds no light beyond white, so an average of its sub-frames turns the streak of a lamp
grey where a camera's stays white. ``highlights`` stretches what is almost white beyond white before
the average, and what is still beyond it afterwards is clipped: the saturation synthesis of Rim et
al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022, with a soft threshold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deblur.data.layout import Averaging

GAMMA = 2.2
#: Focal length in longer sides of the picture: a 36 mm lens in front of full frame, between a
#: phone's main camera (about 26 mm) and a normal lens (50 mm).
FOCAL = 1.0
#: Pixel value above which light is stretched. An even sky gets brighter by what this leaves up to
#: 255 at most; from 240 on, the blurred one was visibly whiter than its sharp original.
HIGHLIGHT = 250
#: Size of the slow wobble against the constant motion.
WOBBLE = 0.2


@dataclass(frozen=True)
class CameraPath:
    """Where the camera points during one exposure, relative to the middle of the exposure.

    Attributes:
        dx, dy: shift of the picture's centre in pixels, shape ``[T]``, zero in the middle.
        roll: rotation about the optical axis in degrees, shape ``[T]``, zero in the middle.
        yaw, pitch: pan and tilt in degrees, likewise, or ``None`` for neither. They only warp the
            perspective: the shift of the centre that comes with them is part of dx and dy.
    """

    dx: np.ndarray
    dy: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray | None = None
    pitch: np.ndarray | None = None

    @property
    def is_flat(self) -> bool:
        """Whether there is no perspective."""
        return self.yaw is None and self.pitch is None

    def reach(self, height: int, width: int) -> int:
        """Pixels by which the path can look past the border of a ``height x width`` picture."""
        shift = float(np.hypot(self.dx, self.dy).max())
        swing = float(np.deg2rad(np.abs(self.roll)).max()) * 0.5 * float(np.hypot(height, width))
        warp = 0.0 if self.is_flat else self._warp(height, width)
        return int(np.ceil(shift + swing + warp)) + 1

    def stride(self, height: int, width: int) -> float:
        """The farthest that any corner moves from one sub-frame to the next, in pixels."""
        moved = np.diff(self._corners(height, width), axis=0)
        return float(np.hypot(moved[:, 0], moved[:, 1]).max())

    def resampled(self, steps: int) -> "CameraPath":
        """The same path with another odd number of sub-frames."""
        before, after = np.linspace(-1.0, 1.0, len(self.dx)), np.linspace(-1.0, 1.0, steps)
        after[steps // 2] = before[len(self.dx) // 2] = (
            0.0  # the middle stays untouched, to the bit
        )

        def along(values: np.ndarray) -> np.ndarray:
            return np.interp(after, before, values)

        return CameraPath(
            along(self.dx), along(self.dy), along(self.roll),
            None if self.yaw is None else along(self.yaw),
            None if self.pitch is None else along(self.pitch),
        )  # fmt: skip

    def _warp(self, height: int, width: int) -> float:
        """The farthest that perspective alone moves a corner, in pixels."""
        still = np.zeros_like(self.roll)
        tilts = replace(self, dx=still, dy=still, roll=still)
        moved = tilts._corners(height, width) - _corners_of(height, width)[:2]
        return float(np.hypot(moved[:, 0], moved[:, 1]).max())

    def _corners(self, height: int, width: int) -> np.ndarray:
        """Where each sub-frame sees its corners: ``[T, 2, 4]`` pixels from the centre."""
        seen = views(self, height, width) @ _corners_of(height, width)
        return seen[:, :2] / seen[:, 2:]


def _corners_of(height: int, width: int) -> np.ndarray:
    """``[3, 4]``, homogeneous."""
    return np.array([[x, y, 2.0] for x in (-width, width) for y in (-height, height)]).T / 2.0


def steps_for(length: float) -> int:
    """Sub-frames for a path of ``length`` pixels: under a pixel a step; odd, to have a middle."""
    return int(np.clip(np.ceil(1.25 * length), 9, 513)) | 1


def mean_frame(
    frames: Iterable[np.ndarray], averaging: Averaging = "blur", highlights: float = 1.0
) -> np.ndarray:
    """What the sensor adds up over ``frames``, in one of GOPRO_Large's two averages.

    Args:
        frames: sub-frames of one exposure, ``[H, W, 3]`` uint8 each, at least one. They are taken
            one by one, so a generator keeps a single one in memory.
        averaging: ``blur`` or ``blur_gamma``.
        highlights: how many times the light of white a white pixel stands for; 1 is white itself.

    Returns:
        ``[H, W, 3]`` float64 in 0..255, not rounded.
    """
    light = light_table(averaging, highlights)
    total, count = np.zeros(1), 0
    for frame in frames:
        total = total + light[frame]
        count += 1
    mean = total / count
    if highlights > 1.0:
        mean = np.minimum(mean, light_table(averaging)[-1])
    return 255.0 * mean ** (1.0 / GAMMA) if averaging == "blur_gamma" else mean


def random_camera_path(
    rng: np.random.Generator,
    length: float,
    roll: float,
    *,
    wobble: float = WOBBLE,
    yaw: float = 0.0,
    pitch: float = 0.0,
    steps: int | None = None,
) -> CameraPath:
    """A smooth hand-shake path: constant motion plus slow, decaying wobble.

    Args:
        rng: source of the draws.
        length: arc length of the translation in pixels.
        roll: largest rotation away from the middle, in degrees.
        wobble: size of the wobble against the constant motion; 0 is a straight line.
        yaw, pitch: largest pan and tilt away from the middle, in degrees; both 0: no perspective.
        steps: sub-frames, an odd number; by default as many as the length needs. They are drawn
            from the same curve whatever their number.
    """
    steps = steps_for(length) if steps is None else steps
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"expected an odd number of sub-frames, at least 3, got {steps}")
    t = np.linspace(-0.5, 0.5, steps)
    heading = rng.uniform(0.0, 2.0 * np.pi)
    velocity = np.stack([np.full(steps, np.cos(heading)), np.full(steps, np.sin(heading))])
    for harmonic in (1, 2):
        amplitude = rng.normal(0.0, wobble / harmonic, (2, 1))
        phase = rng.uniform(0.0, 2.0 * np.pi, (2, 1))
        velocity = velocity + amplitude * np.sin(2.0 * np.pi * harmonic * t + phase)
    path = np.cumsum(velocity, axis=1)
    path *= length / np.hypot(*np.diff(path, axis=1)).sum()
    middle = steps // 2
    path -= path[:, middle : middle + 1]
    turn = _slow_turn(rng, t, roll)
    if yaw == 0.0 and pitch == 0.0:
        return CameraPath(path[0], path[1], turn)
    return CameraPath(path[0], path[1], turn, _slow_turn(rng, t, yaw), _slow_turn(rng, t, pitch))


def _slow_turn(rng: np.random.Generator, t: np.ndarray, largest: float) -> np.ndarray:
    """Angles along a part of a slow wave, zero in the middle: ``[T]``."""
    turn = np.cumsum(np.cos(2.0 * np.pi * rng.uniform(0.2, 0.8) * t + rng.uniform(0, 2 * np.pi)))
    turn -= turn[len(t) // 2]
    peak = float(np.abs(turn).max())
    return turn * (largest / peak) if peak > 0 else turn


def views(path: CameraPath, height: int, width: int) -> np.ndarray:
    """Where each sub-frame looks: homographies ``[T, 3, 3]``.

    They take a place in the sub-frame to its place in the sharp picture, both in pixels from the
    picture's centre. Pan and tilt come first, as ``K R K^-1`` with a focal length of ``FOCAL``
    longer sides (Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 8.4.2),
    less the shift of the centre; then roll, then the shift by (dx, dy).
    """
    steps = len(path.dx)
    flat = np.tile(np.eye(3), (steps, 1, 1))
    turned, shifted = flat.copy(), flat.copy()
    roll = np.deg2rad(path.roll)
    turned[:, 0, 0] = turned[:, 1, 1] = np.cos(roll)
    turned[:, 1, 0] = np.sin(roll)
    turned[:, 0, 1] = -turned[:, 1, 0]
    shifted[:, 0, 2], shifted[:, 1, 2] = path.dx, path.dy
    if path.is_flat:
        return shifted @ turned
    pan, tilt, back = flat.copy(), flat.copy(), flat.copy()
    for matrix, angles, (a, b) in ((pan, path.yaw, (0, 2)), (tilt, path.pitch, (2, 1))):
        angle = np.zeros(steps) if angles is None else np.deg2rad(angles)
        matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
        matrix[:, a, b] = np.sin(angle)
        matrix[:, b, a] = -matrix[:, a, b]
    focal = FOCAL * max(height, width)
    lens = np.diag([focal, focal, 1.0])
    tilted = lens @ pan @ tilt @ np.linalg.inv(lens)
    tilted /= tilted[:, 2:, 2:]
    back[:, :2, 2] = -tilted[:, :2, 2]
    return shifted @ turned @ back @ tilted


def motion_blur(
    sharp: np.ndarray, path: CameraPath, averaging: Averaging = "blur", highlights: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Expose ``sharp`` along ``path``.

    Args:
        sharp: ``[H, W, 3]`` uint8.
        path: the camera path.
        averaging: which of GOPRO_Large's two averages to take.
        highlights: how many times the light of white a white pixel stands for; 1 is white itself.

    Returns:
        ``(blurred, sharp)``: float64 ``[h, w, 3]`` in 0..255 and uint8 ``[h, w, 3]``, both without
        the border that the moving camera does not see throughout. The middle sub-frame is the
        untouched picture, so the pair is aligned exactly.
    """
    height, width = sharp.shape[:2]
    margin = path.reach(height, width)
    picture = Image.fromarray(sharp)
    looks = zip(views(path, height, width), path.dx, path.dy, path.roll, strict=True)
    seen = (
        np.asarray(_look(picture, *flat) if path.is_flat else _look_through(picture, view))
        for view, *flat in looks
    )
    mean = mean_frame(seen, averaging, highlights)
    inner = (slice(margin, height - margin), slice(margin, width - margin))
    return mean[inner], sharp[inner]


def light_table(averaging: Averaging, highlights: float = 1.0) -> np.ndarray:
    """The light that each pixel value stands for: ``[256]`` float64.

    In 0..255 for ``blur`` and in 0..1 for ``blur_gamma``. From ``HIGHLIGHT`` on it rises linearly
    to ``highlights`` times the light of white.
    """
    values = np.arange(256, dtype=np.float64)
    light = values if averaging == "blur" else (values / 255.0) ** GAMMA
    if highlights == 1.0:
        return light
    above = np.clip((light - light[HIGHLIGHT]) / (light[-1] - light[HIGHLIGHT]), 0.0, 1.0)
    return light + (highlights - 1.0) * light[-1] * above


def _look(picture: Image.Image, dx: float, dy: float, degrees: float) -> Image.Image:
    """The picture seen by a camera shifted by (dx, dy) pixels and rolled about the centre."""
    roll = np.deg2rad(degrees)
    if dx == 0.0 and dy == 0.0 and roll == 0.0:
        return picture
    cx, cy = picture.width / 2.0, picture.height / 2.0
    c, s = np.cos(roll), np.sin(roll)
    matrix = (c, -s, cx - c * cx + s * cy + dx, s, c, cy - s * cx - c * cy + dy)
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )


def _look_through(picture: Image.Image, view: np.ndarray) -> Image.Image:
    """The picture seen through a homography of ``views``."""
    if np.array_equal(view, np.eye(3)):
        return picture
    centre = np.eye(3)
    centre[:2, 2] = picture.width / 2.0, picture.height / 2.0
    whole = centre @ view @ np.linalg.inv(centre)
    coefficients = (whole / whole[2, 2]).ravel()[:8].tolist()
    return picture.transform(
        picture.size, Image.Transform.PERSPECTIVE, coefficients, resample=Image.Resampling.BICUBIC
    )
