"""Twenty steps on the CPU give the losses that are written down here.

A change of these numbers is a change of what every training comes to: of the weights drawn, the
crops, their order, the loss, the optimizer. Where that is meant, run

    python -m tests.training.test_golden

and commit what it prints. Processors differ in the last bits of a convolution, and the difference
grows with the steps; hence the tolerance.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.randomness import Stream, generator
from deblur.training.config import make_config
from deblur.training.train import train

TOLERANCE = 3e-4

GOLDEN = {
    "unet": [
        0.57134, 0.53161, 0.539501, 0.546438, 0.560689, 0.568415, 0.503708, 0.53956, 0.547188,
        0.528306, 0.545627, 0.527073, 0.515256, 0.540079, 0.56053, 0.514254, 0.55408, 0.503881,
        0.558265, 0.551176,
    ],
    "nafnet": [
        0.57134, 0.5309, 0.537448, 0.542296, 0.554513, 0.559875, 0.497457, 0.532447, 0.537273,
        0.518192, 0.536243, 0.516739, 0.507627, 0.529275, 0.548946, 0.505979, 0.5453, 0.497312,
        0.547199, 0.54118,
    ],
}  # fmt: skip
SETTINGS = {
    "base_ch": 8, "patch_size": 32, "batch_size": 4, "num_epochs": 2, "crops_per_image": 20,
    "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 5, "ema_decay": 0.9,
    "clip_norm": 1.0, "fft_weight": 0.1, "tile": 64, "overlap": 16, "precision": "fp32",
    "patience": 0, "log_every": 1,
}  # fmt: skip


class Losses:
    def __init__(self) -> None:
        self.steps: list[float] = []

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        if "loss" in values:
            self.steps.append(values["loss"])

    def picture(self, image: object, name: str, step: int | None = None) -> None:
        pass


def make_pairs(root: Path) -> None:
    """Two small pairs whose pixels are the same everywhere: integers, drawn and averaged."""
    for number, split in enumerate(("train", "train", "val")):
        blocks = generator(0, Stream.SCENE, number).integers(0, 256, (12, 12, 3))
        sharp = blocks.repeat(4, axis=0).repeat(4, axis=1)
        blurred = sum(np.roll(sharp, shift, axis=1) for shift in range(-2, 3)) // 5
        for kind, pixels in (("blur", blurred), ("sharp", sharp)):
            folder = root / split / f"blocks{number}" / kind
            folder.mkdir(parents=True)
            Image.fromarray(np.asarray(pixels).astype(np.uint8)).save(folder / "000001.png")


def losses(folder: Path, architecture: str) -> list[float]:
    make_pairs(folder / "pairs")
    tracker = Losses()
    config = make_config("seed", {**SETTINGS, "architecture": architecture})
    train(config, folder / "pairs", folder / "run", tracker=tracker)
    return tracker.steps


@pytest.mark.parametrize("architecture", GOLDEN)
def test_twenty_steps_give_the_golden_losses(tmp_path: Path, architecture: str) -> None:
    assert losses(tmp_path, architecture) == pytest.approx(GOLDEN[architecture], rel=TOLERANCE)


if __name__ == "__main__":
    for name in ("unet", "nafnet"):
        with tempfile.TemporaryDirectory() as folder:
            print(f'"{name}": {[round(loss, 6) for loss in losses(Path(folder), name)]},')
