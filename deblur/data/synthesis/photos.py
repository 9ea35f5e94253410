"""Pairs from a folder of sharp photographs, by simulated camera shake.

Each photograph is a scene. Its name decides on its split and on its camera paths, so one that is
added in a new run changes no pair of the others.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from deblur.cpus import worker_threads
from deblur.data.listing import divide
from deblur.data.storage import list_files
from deblur.data.synthesis.shake import Scene, ShakeConfig, has_pairs, write_pairs
from deblur.data.synthesis.sharpness import BLURRED_FROM, blur_effect
from deblur.data.synthesis.writing import PairWriter
from deblur.digests import file_sha256, json_sha256
from deblur.errors import DataError, PictureError
from deblur.images import SUFFIXES, read_rgb
from deblur.progress import SILENT, Progress

#: Raised whenever the same photographs and configuration give other pixels than before.
PHOTOS_VERSION = 1


@dataclass(frozen=True)
class PhotoSummary:
    """What was made, and what was not.

    Attributes:
        root: the data set's folder.
        photos: photographs that pairs were made from.
        train, val, test: pairs by split.
        blurred_psnr: mean PSNR of the blurred pictures in dB.
        reused: everything was there already.
        unreadable, too_small, twice: a sentence for each photograph that was left out.
        blurry: a sentence for each that was taken, but looks blurred itself.
    """

    root: Path
    photos: int
    train: int
    val: int
    test: int
    blurred_psnr: float
    reused: bool
    unreadable: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    blurry: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Photo:
    """A photograph that was opened once: what is wrong with it, if anything."""

    path: str
    sha256: str = ""
    unreadable: str = ""
    too_small: str = ""
    blurry: str = ""


def synthesize_photos(
    source: Path,
    out: Path,
    config: ShakeConfig = ShakeConfig(),
    progress: Progress = SILENT,
) -> PhotoSummary:
    """Make pairs from sharp photographs; an interrupted run goes on where it was.

    Args:
        source: a folder, searched with all its subfolders, or one photograph.
        out: the data set to make, in the layout of GOPRO_Large.
        config: the range of the shake.
        progress: shows photographs read, then pairs made.

    Raises:
        DataError: there is no photograph that can be used, or ``out`` holds something else.
    """
    source, out = source.resolve(), out.resolve()
    folder, paths = _find(source, out)
    photos = _read_all(folder, paths, config, progress)
    usable, twice = _distinct([p for p in photos if not p.unreadable and not p.too_small])
    notes: dict[str, Any] = {
        "unreadable": tuple(p.unreadable for p in photos if p.unreadable),
        "too_small": tuple(p.too_small for p in photos if p.too_small),
        "twice": twice,
        "blurry": tuple(p.blurry for p in usable if p.blurry),
    }
    if not usable:
        said = (*notes["unreadable"], *notes["too_small"])
        raise DataError(
            f"none of the {len(photos)} photographs in {source} can be used: "
            + "; ".join(said[:3])
            + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
        )
    splits = divide((scene_name(photo.path) for photo in usable), config.hold_out)
    scenes = [_scene(folder, photo.path, splits, config) for photo in usable]
    recipe = {
        "photos": PHOTOS_VERSION,
        "config": config.model_dump(mode="json"),
        "sources": {photo.path: photo.sha256 for photo in usable},
    }
    writer = PairWriter(out, recipe)
    if writer.finished is not None and has_pairs(writer, scenes, config.averaging):
        return PhotoSummary(root=out, reused=True, **writer.finished, **notes)
    summary: dict[str, Any] = {
        "photos": len(usable),
        **write_pairs(writer, scenes, config, progress, "pairs"),
    }
    writer.finish(summary, _sources(usable, scenes))
    return PhotoSummary(root=out, reused=False, **summary, **notes)


def _find(source: Path, out: Path) -> tuple[Path, list[str]]:
    """The folder, and the photographs' paths below it."""
    wanted = f"photographs ({', '.join(sorted(SUFFIXES))})"
    if not source.exists():
        raise DataError(f"there is nothing at {source}: expected a folder of {wanted}, or one file")
    if source.is_file():
        return source.parent, [source.name]
    if source == out:
        raise DataError(f"{source} holds the photographs: name another folder for the pairs")
    files = [f for f in list_files(source) if not (source / f).is_relative_to(out)]
    paths = [f for f in files if PurePosixPath(f).suffix.lower() in SUFFIXES]
    if not paths:
        kinds = Counter(PurePosixPath(f).suffix.lower() or "no suffix" for f in files)
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
        raise DataError(
            f"{source} holds no photographs (it holds {found}): expected {wanted}; convert raw "
            "files to JPEG or PNG first"
        )
    return source, paths


def _read_all(
    folder: Path, paths: Sequence[str], config: ShakeConfig, progress: Progress
) -> list[_Photo]:
    """Open every photograph before anything is written, so that all problems are known at once."""
    photos = []
    with (
        progress.task("read photographs", len(paths), "photographs") as advance,
        worker_threads() as pool,
    ):
        for photo in pool.map(lambda path: _inspect(folder, path, config), paths):
            photos.append(photo)
            advance(1, photo.path)
    return photos


def _inspect(folder: Path, path: str, config: ShakeConfig) -> _Photo:
    try:
        sharp = _open(folder / path, config.longest_side)
        digest = file_sha256(folder / path)
    except (PictureError, OSError) as error:
        return _Photo(path, unreadable=str(error))
    height, width = sharp.shape[:2]
    margin = config.reach(height, width)
    if min(height, width) - 2 * margin < config.smallest_side:
        return _Photo(
            path, digest,
            too_small=f"{path} is {width}x{height}, too small: blur of up to {config.longest:g} px "
            f"takes {margin} px on each side, and {config.smallest_side} must be left "
            "(smallest_side)",
        )  # fmt: skip
    effect = blur_effect(sharp)
    blurry = f"{path} looks blurred itself ({effect:.2f}, sharp is below {BLURRED_FROM:g})"
    return _Photo(path, digest, blurry=blurry if effect >= BLURRED_FROM else "")


def _open(file: Path, longest_side: int | None) -> np.ndarray:
    """``[H, W, 3]`` uint8, upright, the longer side at most ``longest_side``."""
    pixels = read_rgb(file)
    if longest_side is None or max(pixels.shape[:2]) <= longest_side:
        return pixels
    reduced = Image.fromarray(pixels)
    reduced.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return np.asarray(reduced)


def _distinct(photos: Sequence[_Photo]) -> tuple[list[_Photo], tuple[str, ...]]:
    """The photographs without copies, as a copy could be trained on and tested with."""
    first: dict[str, _Photo] = {}
    for photo in photos:
        first.setdefault(photo.sha256, photo)
    copies = [photo for photo in photos if first[photo.sha256] is not photo]
    said = tuple(f"{copy.path} is a copy of {first[copy.sha256].path}" for copy in copies)
    return list(first.values()), said


def _scene(folder: Path, path: str, splits: Mapping[str, str], config: ShakeConfig) -> Scene:
    name = scene_name(path)
    key = int(json_sha256(name)[:8], 16)
    opened = partial(_open, folder / path, config.longest_side)
    return Scene(splits[name], name, config.per_photo, key, opened)


def scene_name(path: str) -> str:
    """A folder's name for a photograph: readable, and unique by eight digits of a digest.

    The digits come with every name and not only where two would be equal, so that no photograph
    that is added renames another.

    Args:
        path: relative, with forward slashes.
    """
    # macOS stores accents apart from their letters; the name is to be the same everywhere.
    path = unicodedata.normalize("NFC", path)
    readable = re.sub(r"\W+", "-", path.rpartition(".")[0] or path).strip("-")
    return f"{readable[-60:] or 'photo'}-{json_sha256(path)[:8]}"


def _sources(photos: Sequence[_Photo], scenes: Sequence[Scene]) -> str:
    rows = "\n".join(
        f"| {scene.name} | {scene.split} | {_cell(photo.path)} | {photo.sha256} |"
        for photo, scene in zip(photos, scenes, strict=True)
    )
    return (
        "# Sources of this data set\n\n"
        "The blur in this data set is **simulated** along random camera paths.\n\n"
        f"| scene | split | photograph | SHA-256 |\n|---|---|---|---|\n{rows}\n"
    )


def _cell(path: str) -> str:
    """A path in a Markdown table, also one that is not UTF-8."""
    return path.encode("utf-8", "replace").decode().replace("|", "\\|")
