"""Preparing a data set: every picture decoded once, into one memory map a split."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deblur.atomic import whole_file
from deblur.data.blur import Averaging
from deblur.data.layout import find_splits
from deblur.data.pairs import FORMAT, MANIFEST, FolderPairs, PairEntry, data_kind, read_manifest
from deblur.digests import file_sha256, json_sha256
from deblur.images import read_size
from deblur.progress import SILENT, Progress


def prepare(root: Path, out: Path, subset: Averaging = "blur", progress: Progress = SILENT) -> dict:
    """Decode a data set once into memory maps below ``out``; keep what is already there and equal.

    The manifest is written last, so a folder without one is unfinished and is made again.

    Returns:
        The manifest: ``format``, ``subset``, ``kind`` (``simulated`` or ``recorded``), ``splits``
        (lists of ``PairEntry``) and ``digest``, the SHA-256 over all of these.
    """
    splits = find_splits(root, subset)
    entries: dict[str, list[dict]] = {}
    totals: dict[str, int] = {}
    with progress.task("prepare", sum(map(len, splits.values())), "pairs") as advance:
        for split, pairs in splits.items():
            offset, listed = 0, []
            for pair in pairs:
                height, width = read_size(pair.blur)
                entry = PairEntry(
                    scene=pair.scene, name=pair.name, height=height, width=width, offset=offset,
                    blur_sha256=file_sha256(pair.blur), sharp_sha256=file_sha256(pair.sharp),
                )  # fmt: skip
                listed.append(asdict(entry))
                offset += 2 * height * width * 3
                advance(1, "reading digests")
            entries[split], totals[split] = listed, offset
    content = {"format": FORMAT, "subset": subset, "kind": data_kind(root), "splits": entries}
    digest = json_sha256(content)
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out)
        if manifest["digest"] == digest and all((out / f"{s}.npy").is_file() for s in splits):
            return manifest

    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for split, pairs in splits.items():
        _write_map(out / f"{split}.npy", FolderPairs(pairs), totals[split], progress, split)
    manifest = {**content, "digest": digest}
    with whole_file(out / MANIFEST) as partial:
        partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _write_map(file: Path, pairs: FolderPairs, total: int, progress: Progress, split: str) -> None:
    """The raw pixels of all pairs, ``total`` bytes, in one file."""
    with whole_file(file) as partial:
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(total,))
        offset = 0
        with progress.task(f"prepare {split}", len(pairs), "pairs") as advance:
            for index in range(len(pairs)):
                for picture in pairs.read(index):
                    pixels[offset : offset + picture.size] = picture.reshape(-1)
                    offset += picture.size
                advance(1)
        pixels.flush()
        del pixels  # Windows does not rename a file that is mapped
