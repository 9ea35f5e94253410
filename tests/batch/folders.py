"""Folders of small pictures, some of them broken in as many ways as there are."""

from pathlib import Path

import numpy as np
from PIL import Image

from deblur.images import SUFFIXES
from tests.pictures import png_of_header

SIZE = (64, 48)  # width, height


def small_pictures(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Names of as many different pictures, in subfolders of a hundred."""
    rng = np.random.default_rng(seed)
    names = []
    for number in range(count):
        name = f"day{number // 100:02d}/{number:05d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(SIZE).save(folder / name)
        names.append(name)
    return names


def break_some(folder: Path, names: list[str]) -> None:
    """Make each of these something else than a whole picture of a sensible size."""
    for number, name in enumerate(names):
        whole = (folder / name).read_bytes()
        broken = [
            b"", b"no picture", whole[: len(whole) // 2], png_of_header(20_000, 20_000), whole[:30]
        ]  # fmt: skip
        (folder / name).write_bytes(broken[number % len(broken)])


def pictures_below(folder: Path) -> list[str]:
    """Names of all pictures but those of hidden folders."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES and not path.name.startswith(".")
    )
