"""Between pixels and the networks' range."""

import numpy as np


def to_float(pixels: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 to ``[1, 3, H, W]`` float32 in [-1, 1], the networks' range."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
    planes /= 127.5
    planes -= 1.0
    return planes


def to_uint8(planes: np.ndarray) -> np.ndarray:
    """``[1, 3, H, W]`` float in [-1, 1] to ``[H, W, 3]`` uint8: clamped, then rounded."""
    scaled = planes[0].transpose(1, 2, 0) + np.float32(1.0)
    # In place: a picture's rows are large.
    scaled *= 127.5
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint8)
