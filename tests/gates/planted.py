"""Models whose worth is known, registered without training, and pictures to judge them by."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from PIL import ImageFilter
from torch import Tensor, nn

from deblur.contract import PREFIX, ModelContract
from deblur.data.manifest import MANIFEST, read_manifest
from deblur.data.pairs import open_pairs
from deblur.data.prepare import prepare
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.scenes import discs, lettering, masonry
from deblur.evaluation import Scores, evaluate
from deblur.export import export_network
from deblur.registry import Version, keep_run_files, register_model
from deblur.serving.engine import Engine
from deblur.tracking import tracked_run

#: What a mild sharpening is worth on a mild Gaussian blur: less than a stronger one, and more than
#: nothing.
MILD, GOOD = 0.2, 0.45
SIGMA = 0.8


class Sharpening(nn.Module):
    """``x + strength * (x - smooth(x))``; below zero it blurs."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("smooth", torch.outer(line, line).expand(3, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.smooth, Tensor)
        around = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return x + self.strength * (x - F.conv2d(around, self.smooth, groups=3))


class Noisy(nn.Module):
    """Adds a fixed pattern of noise of 12 levels."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.sin(12345.0 * x)


def planted_pairs(folder: Path, test_scenes: int = 6) -> Path:
    """Drawn pictures under a mild Gaussian blur, prepared; returns the prepared folder."""
    for split, count in (("train", 2), ("val", 1), ("test", test_scenes)):
        for scene in range(count):
            draw = (lettering, masonry, discs)[scene % 3]
            seed = {"train": 0, "val": 100, "test": 200}[split] + scene
            sharp = draw(generator(seed, Stream.SCENE, 0)).convert("RGB").resize((144, 112))
            # A picture that was taken has no edges of one pixel.
            sharp = sharp.filter(ImageFilter.GaussianBlur(0.6))
            for kind, image in (
                ("sharp", sharp),
                ("blur", sharp.filter(ImageFilter.GaussianBlur(SIGMA))),
            ):
                place = folder / "pairs" / split / f"{split}-{scene}" / kind
                place.mkdir(parents=True, exist_ok=True)
                image.save(place / "000001.png")
    prepare(folder / "pairs", folder / "prepared")
    return folder / "prepared"


def planted_file(network: nn.Module, data: Path, path: Path) -> Path:
    """The ONNX file of a network, whose contract says that it was trained on ``data``."""
    manifest = read_manifest(data)
    contract = ModelContract(
        architecture="Planted", base_ch=1, tile=64, overlap=16, train_crop=64, metrics={},
        data_kind=manifest.kind, subset=manifest.subset, data_digest=manifest.digest,
        config_digest="0" * 64, code_revision="planted", norm="none",
    )  # fmt: skip
    export_network(network.eval(), contract, path)
    proto = onnx.load(path)
    metrics = json.dumps(scores(path, data).metrics("test"))
    next(p for p in proto.metadata_props if p.key == f"{PREFIX}metrics").value = metrics
    onnx.save(proto, path)
    return path


def scores(path: Path, data: Path) -> Scores:
    """Of a file on the test pictures, as it would be served."""
    return evaluate(Engine(path).predict, open_pairs(data, "test"))


def registered(path: Path, data: Path, files: Sequence[str] = (MANIFEST,)) -> Version:
    """A new version of that file in the current store, from a run of its own.

    Args:
        path: the ONNX file.
        data: the prepared folder that it is said to be trained on.
        files: of that folder, what the run keeps.
    """
    with tracked_run(path.stem) as run:
        run.params({"recipe": "planted", "num_epochs": 1})
        if files:
            place = path.parent / f"{path.stem}-data"
            place.mkdir(exist_ok=True)
            for name in files:
                (place / name).write_bytes((data / name).read_bytes())
            keep_run_files(run.run_id, place, "data")
        return register_model(run, path, {})


def posted(data: Path) -> list[tuple[bytes, np.ndarray]]:
    """Of each test pair the blurred picture as PNG, and the sharp one ``[H, W, 3]`` uint8."""
    from tests.serving.conftest import encoded

    pairs = open_pairs(data, "test")
    return [(encoded(b), s) for b, s in (pairs.read(i) for i in range(len(pairs)))]
