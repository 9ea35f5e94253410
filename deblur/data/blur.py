"""Motion blur along a smooth random camera path, as a high-speed camera would record it.

A camera that shakes for the length of one exposure sees many sharp sub-frames; the sensor adds
them up. So does this module: it moves the sharp picture along a path of translation and roll,
and averages. GOPRO_Large offers two averages of the same sub-frames, and so do we:

``blur``        the plain mean of pixel values (the sensor is taken to be linear);
``blur_gamma``  the mean in linear light with gamma 2.2, then back to pixel values.

Nah, Kim and Lee, "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring",
CVPR 2017, section 2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

Averaging = Literal["blur", "blur_gamma"]
GAMMA = 2.2


@dataclass(frozen=True)
class CameraPath:
    """Where the camera points during one exposure, relative to the middle of the exposure.

    Attributes:
        dx, dy: shift in pixels, shape ``[T]``, zero in the middle.
        roll: rotation about the optical axis in degrees, shape ``[T]``, zero in the middle.
    """

    dx: np.ndarray
    dy: np.ndarray
    roll: np.ndarray

    def reach(self, height: int, width: int) -> int:
        """Pixels by which the path can look past the border of a ``height x width`` picture."""
        shift = float(np.hypot(self.dx, self.dy).max())
        swing = float(np.deg2rad(np.abs(self.roll)).max()) * 0.5 * float(np.hypot(height, width))
        return int(np.ceil(shift + swing)) + 1


def random_camera_path(rng: np.random.Generator, length: float, roll: float) -> CameraPath:
    """A smooth hand-shake path: constant motion plus slow, decaying wobble.

    Args:
        rng: source of the draws.
        length: arc length of the translation in pixels.
        roll: largest rotation away from the middle, in degrees.
    """
    steps = int(np.clip(np.ceil(1.25 * length), 9, 65)) | 1  # under a pixel a step; odd: a middle
    t = np.linspace(-0.5, 0.5, steps)
    heading = rng.uniform(0.0, 2.0 * np.pi)
    velocity = np.stack([np.full(steps, np.cos(heading)), np.full(steps, np.sin(heading))])
    for harmonic in (1, 2):
        amplitude = rng.normal(0.0, 0.2 / harmonic, (2, 1))
        phase = rng.uniform(0.0, 2.0 * np.pi, (2, 1))
        velocity = velocity + amplitude * np.sin(2.0 * np.pi * harmonic * t + phase)
    path = np.cumsum(velocity, axis=1)
    path *= length / np.hypot(*np.diff(path, axis=1)).sum()
    turn = np.cumsum(np.cos(2.0 * np.pi * rng.uniform(0.2, 0.8) * t + rng.uniform(0, 2 * np.pi)))
    middle = steps // 2
    path -= path[:, middle : middle + 1]
    turn -= turn[middle]
    peak = float(np.abs(turn).max())
    return CameraPath(path[0], path[1], turn * (roll / peak) if peak > 0 else turn)


def motion_blur(
    sharp: np.ndarray, path: CameraPath, averaging: Averaging = "blur"
) -> tuple[np.ndarray, np.ndarray]:
    """Expose ``sharp`` along ``path``.

    Args:
        sharp: ``[H, W, 3]`` uint8.
        path: the camera path.
        averaging: which of GOPRO_Large's two averages to take.

    Returns:
        ``(blurred, sharp)``: float64 ``[h, w, 3]`` in 0..255 and uint8 ``[h, w, 3]``, both without
        the border that the moving camera does not see throughout. The middle sub-frame is the
        untouched picture, so the pair is aligned exactly.
    """
    height, width = sharp.shape[:2]
    margin = path.reach(height, width)
    picture = Image.fromarray(sharp)
    total = np.zeros(sharp.shape, dtype=np.float64)
    for dx, dy, roll in zip(path.dx, path.dy, np.deg2rad(path.roll), strict=True):
        frame = np.asarray(_look(picture, float(dx), float(dy), float(roll)), dtype=np.float64)
        total += frame if averaging == "blur" else (frame / 255.0) ** GAMMA
    mean = total / len(path.dx)
    if averaging == "blur_gamma":
        mean = 255.0 * mean ** (1.0 / GAMMA)
    inner = (slice(margin, height - margin), slice(margin, width - margin))
    return mean[inner], sharp[inner]


def _look(picture: Image.Image, dx: float, dy: float, roll: float) -> Image.Image:
    """The picture seen by a camera shifted by (dx, dy) pixels and rolled about the centre."""
    if dx == 0.0 and dy == 0.0 and roll == 0.0:
        return picture
    cx, cy = picture.width / 2.0, picture.height / 2.0
    c, s = np.cos(roll), np.sin(roll)
    matrix = (c, -s, cx - c * cx + s * cy + dx, s, c, cy - s * cx - c * cy + dy)
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )
