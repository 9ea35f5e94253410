"""A tiny data set of real blur on drawn scenes, and what is trained on it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.prepare import prepare
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, lettering, masonry
from deblur.training.config import TrainConfig, make_config

SCENES = {"train": (discs, masonry), "val": (lettering,), "test": (lettering,)}

#: A network and a recipe that train in about a second.
TINY = {
    "base_ch": 8, "patch_size": 64, "batch_size": 4, "num_epochs": 2, "crops_per_image": 2,
    "learning_rate": 1e-3, "tile": 64, "overlap": 16, "precision": "fp32", "patience": 0,
    "checkpoint_every": 1,
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pairs of about 100x140 pixels in the layout of GOPRO_Large. Not to be changed."""
    root = tmp_path_factory.mktemp("tiny") / "pairs"
    for number, (split, draws) in enumerate(SCENES.items()):
        for scene, draw in enumerate(draws):
            drawn = draw(generator(number, Stream.SCENE, scene)).resize((160, 120))
            for frame in range(2 if split == "train" else 1):
                path = random_camera_path(generator(number, Stream.BLUR, scene, frame), 6.0, 0.1)
                blurred, sharp = motion_blur(np.asarray(drawn), path)
                for kind, pixels in (("blur", np.rint(blurred.clip(0, 255))), ("sharp", sharp)):
                    folder = root / split / f"{draw.__name__}-{split}" / kind
                    folder.mkdir(parents=True, exist_ok=True)
                    image = Image.fromarray(pixels.astype(np.uint8))
                    image.save(folder / f"{frame + 1:06d}.png")
    return root


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that may be changed."""
    return shutil.copytree(tiny_root, tmp_path / "pairs")


@pytest.fixture(scope="session")
def tiny_data(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny set, prepared."""
    out = tmp_path_factory.mktemp("prepared") / "tiny"
    prepare(tiny_root, out)
    return out


@pytest.fixture
def tiny_config() -> TrainConfig:
    return make_config("seed", TINY)


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training on the tiny set."""
    from deblur.training.train import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(make_config("seed", TINY), tiny_data, out)
    return out


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX file."""
    from deblur.export import export_checkpoint
    from deblur.training.checkpoint import load_checkpoint

    out = tmp_path_factory.mktemp("model") / "model.onnx"
    metrics = {"test_psnr": 20.0, "test_blurred_psnr": 19.0}
    export_checkpoint(load_checkpoint(tiny_run / "best.pt"), out, metrics, "simulated")
    return out


@pytest.fixture
def photograph() -> np.ndarray:
    """A detailed picture of odd size: ``[203, 301, 3]`` uint8."""
    drawn = masonry(generator(7, Stream.SCENE, 0)).resize((301, 203))
    return np.asarray(drawn)


@pytest.fixture
def detail(photograph: np.ndarray) -> np.ndarray:
    """``[40, 56, 3]`` uint8."""
    return np.ascontiguousarray(photograph[80:120, 100:156])
