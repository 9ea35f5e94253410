"""Stage 2: decode the data set once into memory-mapped shards."""

from dataclasses import dataclass
from pathlib import Path

from deblur.data import prepare as preparation
from deblur.data.blur import Averaging
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class PreparedData:
    """Where the prepared data lies and the SHA-256 of its manifest."""

    path: str
    digest: str
    kind: str


def prepare(
    data_root: str, out: str, subset: Averaging = "blur", progress: Progress = SILENT
) -> PreparedData:
    """Prepare ``data_root`` into the folder ``out``; equal data that is there is kept."""
    manifest = preparation.prepare(data_root, Path(out), subset, progress)
    return PreparedData(path=out, digest=manifest.digest, kind=manifest.kind)
