"""Conversion to sRGB by colour profiles, with Little CMS."""

import io
from collections.abc import Callable

from PIL import Image


def to_srgb(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """What converts images of a mode to RGB in sRGB, relative to white with black point
    compensation; ``None`` where the profile cannot do that.

    Args:
        profile: an ICC profile of the mode's colours.
        mode: Pillow's, as ``CMYK``.
    """
    try:
        from PIL import ImageCms
    except ImportError:  # a Pillow that was built without it
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return transform.apply
