"""A decoded picture."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: ``[H, W, 3]`` uint8, upright.
        alpha: ``[H, W]`` uint8, or ``None``.
        grey: whether it was grey and goes back to grey.
        format: the format it came in, a key of ``FORMATS``.
        icc: its ICC profile, kept on writing, or ``None``.
        exif: its EXIF block without what does not hold for ``rgb``, kept on writing, or ``None``.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    format: str = "PNG"
    icc: bytes | None = None
    exif: bytes | None = None

    def with_rgb(self, rgb: np.ndarray) -> "Picture":
        """The same picture with other pixels of the same size."""
        if rgb.shape != self.rgb.shape:
            raise ValueError(f"expected pixels of shape {self.rgb.shape}, got {rgb.shape}")
        return replace(self, rgb=rgb)
