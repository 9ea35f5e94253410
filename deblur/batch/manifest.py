"""What there is to do: the pictures of the source, listed once and kept in the target.

A hundred shards that each listed a million pictures would ask the store a hundred times too often,
so the first to come writes what it found. It never has to be right: what decides whether a picture
is done is its record.
"""

import json
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

from deblur.batch.config import BatchConfig
from deblur.batch.store import patiently
from deblur.data.storage import (
    Location,
    forget_listings,
    list_states,
    location,
    read_bytes,
    write_file,
)
from deblur.errors import DataError, DeblurError
from deblur.images import SUFFIXES

MANIFEST = "manifest.jsonl"
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A picture of the source.

    Attributes:
        name: its path below the source, with forward slashes.
        size: in bytes.
        state: the word of ``deblur.data.storage.state_of`` when it was listed.
    """

    name: str
    size: int
    state: str | None


@dataclass(frozen=True)
class Manifest:
    """All pictures of a source, sorted by name, and how many other files it holds."""

    source: str
    entries: tuple[Entry, ...]
    others: int


def list_source(config: BatchConfig) -> Manifest:
    """List the source anew, and write the manifest into the target.

    Raises:
        DataError: there is no such folder, it holds no pictures, or a store cannot be reached.
        DeblurError: source and target are the same; or the target holds pictures that no batch has
            written, and ``overwrite`` is not set.
    """
    source, target = location(config.source), location(config.target)
    if _address(source) == _address(target):
        raise DeblurError(f"{source} is both source and target: name another folder")
    if isinstance(source, Path) and not source.is_dir():
        raise DataError(f"there is no folder {source}: name a folder of pictures, or s3://...")
    forget_listings(source)
    files = patiently(lambda: list_states(source), f"list {source}")
    # Results below the source would be read again by the next start.
    own = _address(target).removeprefix(_address(source) + "/")
    within = f"{own}/" if own != _address(target) else None
    files = {n: file for n, file in files.items() if not (within and n.startswith(within))}
    entries = tuple(
        Entry(name, size, state)
        for name, (size, state) in files.items()
        if PurePosixPath(name).suffix.lower() in SUFFIXES
    )
    if not entries:
        raise DataError(
            f"{source} holds no pictures ({', '.join(sorted(SUFFIXES))}): check the address"
        )
    manifest = Manifest(config.source, entries, len(files) - len(entries))
    if not config.overwrite:
        _require_own(config, manifest)
    head = {"version": _VERSION, "source": manifest.source, "others": manifest.others}
    lines = [json.dumps(head), *(json.dumps(astuple(entry)) for entry in entries)]
    content = ("\n".join(lines) + "\n").encode()
    file = config.folder / MANIFEST
    patiently(lambda: write_file(file, content), f"write {file}")
    return manifest


def read_manifest(config: BatchConfig) -> Manifest | None:
    """The manifest in the target; ``None`` where there is none of this source.

    Raises:
        DataError: the store cannot be reached.
    """
    file = config.folder / MANIFEST
    try:
        head, *lines = patiently(lambda: read_bytes(file), f"read {file}").decode().splitlines()
        said = json.loads(head)
        if said["version"] != _VERSION or said["source"] != config.source:
            return None
        entries = tuple(Entry(*json.loads(line)) for line in lines)
        return Manifest(said["source"], entries, said["others"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _require_own(config: BatchConfig, manifest: Manifest) -> None:
    """Raise a ``DeblurError`` if pictures of somebody else's would be replaced."""
    target = location(config.target)
    forget_listings(target)
    there = patiently(lambda: list_states(target), f"list {target}")
    taken = [entry.name for entry in manifest.entries if entry.name in there]
    # The manifest is looked for after the listing: shards that start together write pictures only
    # once there is one.
    if taken and not _exists(config.folder / MANIFEST):
        raise DeblurError(
            f"{target} holds {len(taken)} pictures that no batch has written, as {taken[0]}: name "
            "another folder, or add --overwrite"
        )


def _exists(file: Location) -> bool:
    try:
        patiently(lambda: read_bytes(file), f"read {file}")
    except FileNotFoundError:
        return False
    return True


def _address(place: Location) -> str:
    return place.resolve().as_posix() if isinstance(place, Path) else str(place).rstrip("/")
