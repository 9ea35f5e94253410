"""The manifest of a data set: which pairs it consists of, down to the SHA-256 of every source.

Its digest names the data from then on: in checkpoints, in MLflow, in the ONNX file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deblur.atomic import whole_file
from deblur.data.layout import Averaging
from deblur.digests import json_sha256
from deblur.errors import DataError

MANIFEST = "manifest.json"
#: Raised whenever a prepared folder is laid out in another way.
FORMAT = 2
_AGAIN = "delete it and prepare the data again"


@dataclass(frozen=True)
class PairEntry:
    """A pair: its name, its size in pixels, and the digests of the files it comes from."""

    scene: str
    name: str
    height: int
    width: int
    blur_sha256: str
    sharp_sha256: str

    @property
    def bytes(self) -> int:
        """Raw bytes of both pictures."""
        return 2 * self.height * self.width * 3


@dataclass(frozen=True)
class Shard:
    """A file of raw pixels: those of the next ``pairs`` pairs of its split, one after another."""

    file: str
    pairs: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitEntries:
    """A split: its pairs, and the shards that hold their pixels (none if it is not prepared)."""

    pairs: tuple[PairEntry, ...]
    shards: tuple[Shard, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the pairs, whether prepared or not."""
        return json_sha256([asdict(pair) for pair in self.pairs])


@dataclass(frozen=True)
class Manifest:
    """What a data set is.

    Attributes:
        subset: which blurred folder was taken.
        kind: ``simulated`` or ``recorded``.
        layout: name of the layout in which it was found.
        source: the address it was read from; not part of the digest.
        splits: pairs by split, in the order train, val, test.
    """

    subset: Averaging
    kind: str
    layout: str
    source: str
    splits: Mapping[str, SplitEntries] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over subset, kind and the splits' digests: the version of the data."""
        digests = {split: entries.digest for split, entries in self.splits.items()}
        return json_sha256({"subset": self.subset, "kind": self.kind, "splits": digests})

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``, whole or not at all."""
        content = {
            "format": FORMAT,
            "digest": self.digest,
            "subset": self.subset,
            "kind": self.kind,
            "layout": self.layout,
            "source": self.source,
            "splits": {
                split: {"digest": entries.digest, **asdict(entries)}
                for split, entries in self.splits.items()
            },
        }
        with whole_file(folder / MANIFEST) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def is_prepared(data: object) -> bool:
    """Whether an address is a prepared folder."""
    return "://" not in str(data) and (Path(str(data)) / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder, or one named by its file.

    Raises:
        DataError: there is none, or it is damaged, of another format, or not what its digest says.
    """
    path = folder if folder.suffix == ".json" else folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DataError(f"{path} is not a manifest of format {FORMAT}: {_AGAIN}")
        manifest = Manifest(
            content["subset"],
            content["kind"],
            content["layout"],
            content["source"],
            {
                split: SplitEntries(
                    tuple(PairEntry(**pair) for pair in entries["pairs"]),
                    tuple(Shard(**shard) for shard in entries["shards"]),
                )
                for split, entries in content["splits"].items()
            },
        )
    except FileNotFoundError:
        raise DataError(
            f"{folder} is not a prepared data set, it has no {MANIFEST}: prepare one with  "
            "deblur data prepare"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{path} cannot be read ({what}): {_AGAIN}") from None
    if manifest.digest != content.get("digest"):
        raise DataError(f"{path} was changed, its digest does not fit what it lists: {_AGAIN}")
    return manifest
