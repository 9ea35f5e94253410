"""A data set without a fault: 36 pairs of about 160x220 px, real blur over drawn scenes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, gratings, lettering, masonry

#: Scene, split, how it is drawn and the number of its frames.
SCENES = (
    ("discs-1", "train", discs, 4), ("discs-2", "train", discs, 4),
    ("gratings-1", "train", gratings, 4), ("lettering-1", "train", lettering, 4),
    ("lettering-2", "train", lettering, 4), ("masonry-1", "train", masonry, 4),
    ("masonry-2", "train", masonry, 2), ("discs-3", "val", discs, 2),
    ("lettering-3", "val", lettering, 2), ("discs-4", "test", discs, 2),
    ("lettering-4", "test", lettering, 2), ("masonry-4", "test", masonry, 2),
)  # fmt: skip
CROP = 128


def save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8)).save(file)


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    root = tmp_path_factory.mktemp("clean") / "pairs"
    for number, (scene, split, draw, frames) in enumerate(SCENES):
        drawn = np.asarray(draw(generator(3, Stream.SCENE, number)).resize((240, 180)))
        for frame in range(frames):
            rng = generator(3, Stream.BLUR, number, frame)
            blurred, sharp = motion_blur(drawn, random_camera_path(rng, 4.0 + 2 * frame, 0.2))
            for kind, pixels in (("blur", blurred), ("sharp", sharp)):
                save(pixels, root / split / scene / kind / f"{frame + 1:06d}.png")
    return root


@pytest.fixture
def root(clean_root: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(clean_root, tmp_path / "pairs")
