"""Stage 2: decode the data set once into memory-mapped shards."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deblur.data import prepare as preparation
from deblur.data.layout import Averaging
from deblur.data.manifest import read_manifest
from deblur.errors import DataError
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class PreparedData:
    """Where the prepared data lies and which version it is.

    Attributes:
        path: the prepared folder.
        digest: SHA-256 of its manifest.
        kind: ``simulated`` or ``recorded``.
        previous: digest of the version that was there before; empty for the first one.
    """

    path: str
    digest: str
    kind: str
    previous: str = ""

    @property
    def is_new(self) -> bool:
        """Whether this version was not there before."""
        return self.digest != self.previous


def prepare(
    data_root: str, out: str, subset: Averaging = "blur", progress: Progress = SILENT
) -> PreparedData:
    """Prepare ``data_root`` into the folder ``out``; what is there and equal is kept."""
    previous = ""
    with suppress(DataError):
        previous = read_manifest(Path(out)).digest
    manifest = preparation.prepare(data_root, Path(out), subset, progress)
    return PreparedData(out, manifest.digest, manifest.kind, previous)
