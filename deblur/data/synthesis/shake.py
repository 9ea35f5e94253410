"""Simulated camera shake: its range, one random shake, and whole scenes of blurry/sharp pairs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deblur.cpus import worker_threads
from deblur.data.layout import HOLD_OUT, SHARP, SPLITS, Averaging
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import (
    WOBBLE,
    CameraPath,
    motion_blur,
    random_camera_path,
    steps_for,
)
from deblur.data.synthesis.writing import PairWriter
from deblur.images import read_rgb
from deblur.metrics import psnr
from deblur.progress import Progress

#: Pixels between two sub-frames above which a corner would show ghosts rather than blur. In the
#: sample data set it is 1.8 at most, so this leaves its pixels as they are.
_LONGEST_STRIDE = 2.0
#: Pairs made from one decoding of a picture: few, so that threads can share one picture's pairs.
_AT_A_TIME = 4


class ShakeConfig(BaseModel):
    """Everything that decides how sharp photographs are blurred.

    What says "largest" is drawn anew for each blurred picture, evenly from nothing to there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(
        default=0, ge=0, lt=2**64, description="every path and grain of noise follows"
    )
    averaging: Averaging = Field(
        default="blur", description="mean of pixel values, or in linear light"
    )
    per_photo: int = Field(
        default=4, ge=1, le=10_000, description="blurred pictures of each photograph"
    )
    shortest: float = Field(
        default=5.0, gt=0, le=200, description="shortest path at the centre, in pixels"
    )
    longest: float = Field(
        default=30.0, gt=0, le=200, description="longest path at the centre, in pixels"
    )
    roll: float = Field(default=0.3, ge=0, le=10, description="largest rotation in degrees")
    perspective: float = Field(
        default=0.3, ge=0, le=10, description="largest pan and tilt in degrees"
    )
    wobble: float = Field(
        default=WOBBLE, ge=0, le=2, description="bends of the path; 0 is straight"
    )
    noise: float = Field(
        default=1.0, ge=0, le=50, description="standard deviation of noise, of 255"
    )
    shot_noise: float = Field(
        default=0.0, ge=0, le=50, description="the same, in white, from light itself"
    )
    highlights: float = Field(
        default=2.0, ge=1, le=20, description="largest light of white, in whites; 1 is off"
    )
    longest_side: int | None = Field(
        default=1280, ge=64, description="larger photographs are reduced to this; none keeps them"
    )
    smallest_side: int = Field(
        default=256, ge=32, description="shorter side that a pair has at least"
    )
    hold_out: float = Field(
        default=HOLD_OUT, ge=0, lt=0.5, description="photographs in each of val, test"
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest:g} is more than longest {self.longest:g}")
        return self

    def reach(self, height: int, width: int) -> int:
        """Pixels that no path looks past the border of a ``height x width`` picture by."""
        signs = np.array([1.0, 1.0, -1.0, -1.0])
        tilts = (self.perspective * signs, self.perspective * signs[[0, 2, 1, 3]])
        widest = CameraPath(
            self.longest * abs(signs), 0.0 * signs, self.roll * signs,
            *(tilts if self.perspective else ()),
        )  # fmt: skip
        return widest.reach(height, width)


@dataclass(frozen=True)
class Scene:
    """A sharp picture that pairs are made of.

    Attributes:
        split, name: where its pairs go.
        pairs: how many.
        key: a number below 2^64 that its random draws follow from, with the seed.
        open: gives the picture, ``[H, W, 3]`` uint8.
    """

    split: str
    name: str
    pairs: int
    key: int
    open: Callable[[], np.ndarray]


def random_shake(
    config: ShakeConfig, rng: np.random.Generator, steps: int | None = None
) -> tuple[CameraPath, float]:
    """One camera path in the range of ``config``, and what white stands for (``motion_blur``).

    Args:
        steps: sub-frames; by default as many as the path's length needs.
    """
    length = float(rng.uniform(config.shortest, config.longest))
    roll = float(rng.uniform(0.0, config.roll))
    # Nothing is drawn for what is switched off, so that older data sets keep their pixels.
    yaw, pitch = rng.uniform(0.0, config.perspective, 2) if config.perspective else (0.0, 0.0)
    highlights = float(rng.uniform(1.0, config.highlights)) if config.highlights > 1 else 1.0
    path = random_camera_path(
        rng, length, roll, wobble=config.wobble, yaw=float(yaw), pitch=float(pitch), steps=steps
    )
    return path, highlights


def shake(
    sharp: np.ndarray, config: ShakeConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``(blurred, sharp)``, both ``[h, w, 3]`` uint8, of a sharp picture ``[H, W, 3]`` uint8.

    The noise is Gaussian with the variance ``noise^2 + shot_noise^2 v / 255`` at value ``v``: Foi
    et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data",
    TIP 2008, section II.
    """
    path, highlights = random_shake(config, rng)
    # Roll and tilt move the corners farther than the centre, which the steps were counted for.
    stride = path.stride(*sharp.shape[:2])
    if stride > _LONGEST_STRIDE:
        path = path.resampled(steps_for(len(path.dx) * stride))
    mean, kept = motion_blur(sharp, path, config.averaging, highlights)
    deviation: float | np.ndarray = config.noise
    if config.shot_noise > 0:
        deviation = np.sqrt(config.noise**2 + config.shot_noise**2 * mean / 255.0)
    noisy = mean + rng.normal(0.0, deviation, mean.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), kept


def write_pairs(
    writer: PairWriter, scenes: Sequence[Scene], config: ShakeConfig, progress: Progress, task: str
) -> dict[str, int | float]:
    """Write the pairs of all scenes that are not there yet.

    Returns:
        The number of pairs by split, and ``blurred_psnr``: the mean PSNR of the blurred pictures
        in dB. Pairs that were there already are read for it, so an interruption changes nothing.
    """
    jobs = [
        (scene, range(first, min(first + _AT_A_TIME, scene.pairs)))
        for scene in scenes
        for first in range(0, scene.pairs, _AT_A_TIME)
    ]

    def make(job: tuple[Scene, range]) -> list[float]:
        return list(_make(writer, *job, config))

    psnrs: list[float] = []
    with (
        progress.task(task, sum(scene.pairs for scene in scenes), "pairs") as advance,
        worker_threads() as pool,
    ):
        for (scene, _), values in zip(jobs, pool.map(make, jobs), strict=True):
            psnrs.extend(values)
            advance(len(values), scene.name)
    counts = {split: sum(s.pairs for s in scenes if s.split == split) for split in SPLITS}
    return {**counts, "blurred_psnr": round(float(np.mean(psnrs)), 3)}


def has_pairs(writer: PairWriter, scenes: Sequence[Scene], averaging: Averaging) -> bool:
    """Whether the pairs of all scenes are there."""
    return all(
        writer.has(scene.split, scene.name, _name(number), (averaging,))
        for scene in scenes
        for number in range(scene.pairs)
    )


def _make(writer: PairWriter, scene: Scene, numbers: range, config: ShakeConfig) -> Iterator[float]:
    sharp: np.ndarray | None = None
    for number in numbers:
        name = _name(number)
        if writer.has(scene.split, scene.name, name, (config.averaging,)):
            there = writer.root / scene.split / scene.name
            yield psnr(read_rgb(there / config.averaging / name), read_rgb(there / SHARP / name))
            continue
        sharp = scene.open() if sharp is None else sharp
        blurred, kept = shake(sharp, config, generator(config.seed, Stream.BLUR, scene.key, number))
        writer.write(scene.split, scene.name, name, {config.averaging: blurred}, kept)
        yield psnr(blurred, kept)


def _name(number: int) -> str:
    return f"{number + 1:06d}.png"
