"""A small simulated data set in the layout of GOPRO_Large, built on the machine from a seed.

Every scene is blurred along several camera paths of its own. Scenes are split by source picture,
never by crop. A file ``dataset.json`` says how it was made and that the blur is simulated;
``SOURCES.md`` lists where each picture comes from and its licence.
"""

import json
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deblur.data.blur import Averaging, motion_blur, random_camera_path
from deblur.data.pairs import DESCRIPTION
from deblur.data.randomness import Stream, generator
from deblur.data.scenes import DRAWINGS, PHOTOGRAPHS, Drawing, Photograph
from deblur.errors import DataError
from deblur.metrics import psnr
from deblur.progress import SILENT, Progress

#: Raised whenever the same seed gives other pixels than before.
SAMPLE_VERSION = 1

Scene = Photograph | Drawing


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

    The set is made in a folder beside ``root`` and moved into place when complete, so an
    interrupted build leaves no half data set.

    Raises:
        DataError: ``root`` holds something else that would be overwritten.
        SetupError: a package that brings the photographs is missing.
    """
    root = root.resolve()
    description = {"kind": "simulated", "version": SAMPLE_VERSION, "config": asdict(config)}
    kept = _read_description(root)
    if kept is not None and {k: kept.get(k) for k in description} == description:
        return SampleSummary(root=root, reused=True, **kept["summary"])
    if root.exists() and any(root.iterdir()) and kept is None:
        raise DataError(
            f"{root} exists and is not a sample data set, so it will not be overwritten: "
            "name another folder, or remove this one"
        )

    building = root.with_name(f".{root.name}.building-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        summary = _build(building, config, progress)
        (building / DESCRIPTION).write_text(
            json.dumps({**description, "summary": summary}, indent=2) + "\n", encoding="utf-8"
        )
        (building / "SOURCES.md").write_text(_sources(), encoding="utf-8")
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.exists():
            shutil.rmtree(root)
        building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return SampleSummary(root=root, reused=False, **summary)


def _read_description(root: Path) -> dict | None:
    try:
        described = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return described if isinstance(described, dict) and "summary" in described else None


def _build(root: Path, config: SampleConfig, progress: Progress) -> dict:
    jobs = [
        (scene, frame)
        for scene in (*PHOTOGRAPHS, *DRAWINGS)
        for frame in range(config.frames if scene.split == "train" else max(1, config.frames // 2))
    ]
    originals = {
        scene.name: scene.open(config.seed) if isinstance(scene, Drawing) else scene.open()
        for scene in (*PHOTOGRAPHS, *DRAWINGS)
    }

    def make(job: tuple[Scene, int]) -> float:
        scene, frame = job
        return _write_pair(root, scene, frame, originals[scene.name], config)

    psnrs = []
    # Pillow warps and compresses outside the interpreter lock, so threads use all cores.
    with progress.task("sample data", len(jobs), "pairs") as advance, ThreadPoolExecutor() as pool:
        for value in pool.map(make, jobs):
            psnrs.append(value)
            advance(1)
    counts = {s: sum(scene.split == s for scene, _ in jobs) for s in ("train", "val", "test")}
    return {**counts, "blurred_psnr": round(float(np.mean(psnrs)), 3)}


def _write_pair(
    root: Path, scene: Scene, frame: int, original: np.ndarray, config: SampleConfig
) -> float:
    rng = generator(config.seed, Stream.BLUR, zlib.crc32(scene.name.encode()), frame)
    length = float(rng.uniform(config.shortest, config.longest))
    path = random_camera_path(rng, length, float(rng.uniform(0.0, config.roll)))
    mean, sharp = motion_blur(original, path, config.averaging)
    noisy = mean + rng.normal(0.0, config.noise, mean.shape)
    blurred = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    for kind, pixels in ((config.averaging, blurred), ("sharp", sharp)):
        folder = root / scene.split / scene.name / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{frame + 1:06d}.png", compress_level=1)
    return psnr(blurred, sharp)


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
