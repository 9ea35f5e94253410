"""Writing a simulated data set in the layout of GOPRO_Large, in a way that can be interrupted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deblur.atomic import whole_file
from deblur.data.layout import SHARP, Averaging
from deblur.data.listing import DESCRIPTION, read_description
from deblur.errors import DataError


class PairWriter:
    """Writes pairs below ``root``; going on with the same recipe keeps those that are there.

    ``dataset.json`` says ``complete: false`` until ``finish``, and an unfinished data set is
    refused by whatever reads it.

    Args:
        root: the folder to fill.
        recipe: plain values that decide every pixel: configuration, digests of the sources.

    Attributes:
        finished: the summary that an earlier ``finish`` left for the same recipe, or ``None``.

    Raises:
        DataError: ``root`` holds something else.
    """

    def __init__(self, root: Path, recipe: Mapping[str, Any]) -> None:
        self.root = root
        self.recipe = json.loads(json.dumps(dict(recipe)))  # as it will be read back
        there = read_description(root)
        same = there.get("recipe") == self.recipe
        if not same and root.is_dir() and any(root.iterdir()):
            what = "was made in another way" if there else "is not a simulated data set"
            raise DataError(
                f"{root} exists and {what}, so it will not be overwritten: name another folder, "
                "or remove this one"
            )
        self.finished: dict | None = there.get("summary") if same else None
        if not same:
            self._describe(complete=False)

    def has(self, split: str, scene: str, name: str, averagings: tuple[Averaging, ...]) -> bool:
        """Whether the pair is there already."""
        return all(self._file(split, scene, f, name).is_file() for f in (*averagings, SHARP))

    def write(
        self,
        split: str,
        scene: str,
        name: str,
        blurred: Mapping[Averaging, np.ndarray],
        sharp: np.ndarray,
    ) -> None:
        """Write a pair: ``[H, W, 3]`` uint8 each, as PNG."""
        for folder, pixels in (*blurred.items(), (SHARP, sharp)):
            with whole_file(self._file(split, scene, folder, name)) as partial:
                Image.fromarray(pixels).save(partial, format="PNG", compress_level=1)

    def finish(self, summary: Mapping[str, Any], sources: str = "") -> None:
        """Mark the data set complete.

        Args:
            summary: plain values about what was made, kept in ``dataset.json``.
            sources: Markdown on where the pictures come from, written to ``SOURCES.md``.
        """
        if sources:
            with whole_file(self.root / "SOURCES.md") as partial:
                partial.write_text(sources, encoding="utf-8")
        self._describe(complete=True, summary=dict(summary))

    def _file(self, split: str, scene: str, folder: str, name: str) -> Path:
        return self.root / split / scene / folder / name

    def _describe(self, complete: bool, **more: Any) -> None:
        described = {"kind": "simulated", "complete": complete, "recipe": self.recipe, **more}
        with whole_file(self.root / DESCRIPTION) as partial:
            partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
