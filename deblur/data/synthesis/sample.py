"""A small simulated data set in the layout of GOPRO_Large, built on the machine from a seed.

Every scene is blurred along several camera paths of its own. Scenes are split by source picture,
never by crop. A file ``dataset.json`` says how it was made and that the blur is simulated;
``SOURCES.md`` lists where each picture comes from and its licence.
"""

import shutil
import zlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deblur.data.layout import Averaging
from deblur.data.listing import read_description
from deblur.data.synthesis.scenes import DRAWINGS, PHOTOGRAPHS, Drawing
from deblur.data.synthesis.shake import Scene, ShakeConfig, has_pairs, write_pairs
from deblur.data.synthesis.writing import PairWriter
from deblur.progress import SILENT, Progress

#: Raised whenever the same seed gives other pixels than before.
SAMPLE_VERSION = 1


@dataclass(frozen=True)
class SampleConfig:
    """How the sample is made.

    Attributes:
        seed: every path, scene and grain of noise follows from it.
        averaging: ``blur`` or ``blur_gamma``, as GOPRO_Large names its two folders.
        frames: blurred pictures per training scene; validation and test scenes get half as many.
        shortest, longest: bounds of the camera path's length in pixels.
        roll: largest rotation during the exposure, in degrees.
        noise: standard deviation of the Gaussian noise on the blurred picture, of 255.
    """

    seed: int = 0
    averaging: Averaging = "blur"
    frames: int = 8
    shortest: float = 6.0
    longest: float = 10.0
    roll: float = 0.25
    noise: float = 0.7


@dataclass(frozen=True)
class SampleSummary:
    """What was built: counts and the mean PSNR of the blurred pictures in dB."""

    root: Path
    train: int
    val: int
    test: int
    blurred_psnr: float
    reused: bool


def build_sample(
    root: Path, config: SampleConfig = SampleConfig(), progress: Progress = SILENT
) -> SampleSummary:
    """Build the sample data set below ``root``, or keep it if it is already the one asked for.

    A build that was interrupted goes on where it was; a sample of another configuration is made
    anew in its place.

    Raises:
        DataError: ``root`` holds something else that would be overwritten.
        SetupError: a package that brings the photographs is missing.
    """
    root = root.resolve()
    recipe = {"sample": SAMPLE_VERSION, "config": asdict(config)}
    scenes = _scenes(config)  # before anything is removed: it fails if a package is missing
    if _is_another_sample(root, recipe):
        shutil.rmtree(root)
    writer = PairWriter(root, recipe)
    if writer.finished is not None and has_pairs(writer, scenes, config.averaging):
        return SampleSummary(root=root, reused=True, **writer.finished)
    shake = ShakeConfig(
        seed=config.seed, averaging=config.averaging, shortest=config.shortest,
        longest=config.longest, roll=config.roll, perspective=0.0, noise=config.noise,
        highlights=1.0,
    )  # fmt: skip
    summary: dict[str, Any] = write_pairs(writer, scenes, shake, progress, "sample data")
    writer.finish(summary, _sources())
    return SampleSummary(root=root, reused=False, **summary)


def _is_another_sample(root: Path, recipe: dict) -> bool:
    """Whether a sample made in another way is there. The first ones held no ``recipe``."""
    there = read_description(root)
    return there.get("recipe") != recipe and (
        "sample" in there.get("recipe", {}) or {"version", "config", "summary"} <= there.keys()
    )


def _scenes(config: SampleConfig) -> list[Scene]:
    scenes = []
    for source in (*PHOTOGRAPHS, *DRAWINGS):
        opened = source.open(config.seed) if isinstance(source, Drawing) else source.open()
        pairs = config.frames if source.split == "train" else max(1, config.frames // 2)
        key = zlib.crc32(source.name.encode())
        scenes.append(Scene(source.split, source.name, pairs, key, partial(np.asarray, opened)))
    return scenes


def _sources() -> str:
    rows = "\n".join(
        f"| {s.name} | {s.split} | {s.credit} | {s.licence} |" for s in (*PHOTOGRAPHS, *DRAWINGS)
    )
    return (
        "# Sources of the sample data set\n\n"
        "The blur in this data set is **simulated** along random camera paths. The sharp pictures "
        "come from scikit-image and scikit-learn, or are drawn.\n\n"
        f"| scene | split | source | licence |\n|---|---|---|---|\n{rows}\n"
    )
