"""Finding the pairs of a data set.

A data set is named by one address, local or fsspec's: a folder in one of the known layouts, or
with a ``layout.toml`` of its own; a ``.toml`` file that declares layout and folder; or a ``.csv``
of pairs.
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from deblur.data.layout import (
    HOLD_OUT,
    LAYOUT_FILE,
    LAYOUTS,
    SHARP,
    SPLITS,
    UNDIVIDED,
    Averaging,
    Layout,
    SplitLayout,
    read_layout,
)
from deblur.data.storage import (
    Location,
    forget_listings,
    list_files,
    location,
    reachable,
    state_of,
)
from deblur.digests import fraction_of
from deblur.errors import DataError
from deblur.images import SUFFIXES

#: Beside the pictures of a simulated data set: how it was made, and whether it is complete.
DESCRIPTION = "dataset.json"
_ABOVE = 4  # folders from a picture up to its data set, as ROOT/train/SCENE/blur
_EXPECTED = (
    "expected ROOT/{train,test}/SCENE/{blur,sharp}/*.png as in GOPRO_Large, ROOT/{blur,sharp}/*, "
    f"the trees of REDS or RealBlur, a {LAYOUT_FILE} that declares another, or a .csv of pairs"
)


@dataclass(frozen=True)
class Pair:
    """One blurry picture and its sharp original."""

    scene: str
    name: str
    blur: Location
    sharp: Location


@dataclass(frozen=True)
class Unpaired:
    """A picture without its counterpart, and where that was expected."""

    picture: Location
    expected: Location


@dataclass(frozen=True)
class Listing:
    """What a data set holds, before any picture is opened.

    Attributes:
        layout: name of the layout that was found.
        splits: the pairs by split, in the order train, val, test; sorted by scene and name.
        unpaired: pictures whose counterpart is missing.
    """

    layout: str
    splits: dict[str, list[Pair]]
    unpaired: list[Unpaired] = field(default_factory=list)


def list_data(data: str | Location, subset: Averaging = "blur") -> Listing:
    """What a data set holds, without opening a picture and without judging.

    Args:
        data: a folder, a ``.toml`` layout or a ``.csv`` of pairs.
        subset: which blurred folder to take, where the layout has several.

    Raises:
        DataError: there is no such data, it is unfinished, no layout fits, or a declared layout or
            a list is not valid.
    """
    source = location(data)
    forget_listings(source)
    if source.suffix.lower() == ".csv":
        return _divided(_list_csv(source), HOLD_OUT)
    if source.suffix.lower() == ".toml":
        declared = read_layout(source)
        root = _below(source.parent, declared.root) if declared.root else source.parent
        candidates = {source.name: declared}
    else:
        root, candidates = source, LAYOUTS
    with reachable(root):
        if not root.is_dir():
            raise DataError(
                f"there is no data folder {root}: {_EXPECTED} (docs/data.md); make a sample with  "
                "deblur data sample"
            )
    _require_complete(root)
    files = list_files(root)
    if candidates is LAYOUTS and LAYOUT_FILE in files:
        candidates = {LAYOUT_FILE: read_layout(root / LAYOUT_FILE)}
    for name, layout in candidates.items():
        listing = _list(name, layout, root, files, subset)
        if listing.splits or (listing.unpaired and subset == "blur"):
            return _divided(listing, layout.hold_out, root.name)
    inside = ", ".join(sorted({f.split("/")[0] for f in files})[:5]) or "nothing"
    raise DataError(
        f"{root} holds no pairs of '{subset}' and '{SHARP}' pictures (it holds {inside}): "
        f"{_EXPECTED} (docs/data.md)"
    )


def find_splits(data: str | Location, subset: Averaging = "blur") -> dict[str, list[Pair]]:
    """All pairs of a data set, by split.

    Raises:
        DataError: as ``list_data`` does, or a picture lacks its counterpart.
    """
    listing = list_data(data, subset)
    require_paired(listing)
    return listing.splits


def require_paired(listing: Listing) -> None:
    """Raise a ``DataError`` if a picture lacks its counterpart."""
    if listing.unpaired:
        lone, others = listing.unpaired[0], len(listing.unpaired) - 1
        raise DataError(
            f"{lone.picture} has no counterpart {lone.expected}"
            + (f" (and {others} more lack theirs)" if others else "")
            + ": every blurred picture needs its sharp one, and the reverse; add it, or remove "
            "this one"
        )


def find_pairs(data: str | Location, split: str, subset: Averaging = "blur") -> list[Pair]:
    """The pairs of one split.

    Raises:
        DataError: as ``find_splits`` does, or there is no such split.
    """
    splits = find_splits(data, subset)
    if split not in splits:
        raise DataError(f"{data} has no split '{split}', only {', '.join(splits)}")
    return splits[split]


def split_of(scene: str, hold_out: float) -> str:
    """The split of a scene, by a hash of its name: ``test`` and ``val`` for a share ``hold_out``
    each, so that a scene that is added later moves no other."""
    place = fraction_of(scene)
    return "test" if place < hold_out else "val" if place < 2 * hold_out else "train"


def divide(scenes: Iterable[str], hold_out: float) -> dict[str, str]:
    """The split of each scene, as ``split_of`` says. Where chance left ``test`` or ``val`` empty,
    as it does with a handful of scenes, the training scene nearest to it goes there.
    """
    splits = {scene: split_of(scene, hold_out) for scene in scenes}
    for split in ("test", "val") if hold_out > 0 else ():
        training = [scene for scene in splits if splits[scene] == "train"]
        if split not in splits.values() and len(training) > 1:
            splits[min(training, key=fraction_of)] = split
    return splits


def name_of(data: str | Location, subset: Averaging) -> str:
    """A folder's name for what is made of a data set: the end of its address, and the subset."""
    name = location(data).absolute().name.removesuffix(".csv").removesuffix(".toml")
    return f"{name or 'data'}-{subset}"  # without a name: a bucket as a whole


def state_of_pair(pair: Pair) -> list[str] | None:
    """The states of both files; ``None`` where one cannot be told, and they have to be read."""
    blur, sharp = state_of(pair.blur), state_of(pair.sharp)
    return None if blur is None or sharp is None else [blur, sharp]


def kind_of(listing: Listing) -> str:
    """``simulated`` or ``recorded``. A simulated data set says so in its ``dataset.json``, in one
    of the folders above its pictures; anything else is taken to be recorded.

    Each split's first pair is asked, so that lists and layouts elsewhere tell the same.
    """
    firsts = [pairs[0] for pairs in listing.splits.values() if pairs]
    folders: set[Location] = set()
    for pair in firsts:
        folder = pair.blur
        for _ in range(_ABOVE):
            folder = folder.parent
            folders.add(folder)
    kinds = {read_description(folder).get("kind") for folder in folders}
    return "simulated" if "simulated" in kinds else "recorded"


def read_description(folder: Location) -> dict:
    """The ``dataset.json`` of a folder; empty if there is none that can be read."""
    try:
        described = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}


def _require_complete(folder: Location) -> None:
    if read_description(folder).get("complete", True) is not True:
        raise DataError(
            f"{folder} is unfinished, as making it was interrupted: run the same command again, "
            "it goes on where it was"
        )


def _list(
    name: str, layout: Layout, root: Location, files: list[str], subset: Averaging
) -> Listing:
    pictures = [f for f in files if PurePosixPath(f).suffix.lower() in SUFFIXES]
    splits: dict[str, list[Pair]] = {}
    unpaired: list[Unpaired] = []
    for split, where in layout.splits.items():
        if subset != "blur" and not where.has_subset:
            continue
        blurred, sharp = _of_split(where, root, pictures, files, subset)
        pairs = [
            Pair(where.scene_prefix + scene, file, root / blurred[scene, file], root / path)
            for (scene, file), path in sorted(sharp.items())
            if (scene, file) in blurred
        ]
        if pairs:
            splits[split] = pairs
        for have, there, expected in (
            (blurred, sharp, where.sharp),
            (sharp, blurred, where.blur),
        ):
            for scene, file in sorted(have.keys() - there.keys()):
                path = expected.format(scene=scene, name=file, subset=subset)
                unpaired.append(Unpaired(root / have[scene, file], root / path))
    return Listing(name, splits, unpaired)


def _of_split(
    where: SplitLayout, root: Location, pictures: list[str], files: list[str], subset: str
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]]:
    """Paths of the blurred and of the sharp pictures, by (scene, name)."""
    if where.only is not None:
        if where.only not in files:
            return {}, {}
        with reachable(root):
            named = set((root / where.only).read_bytes().decode().split())
        pictures = [f for f in pictures if f in named]
    return _matches(where.blur, pictures, subset), _matches(where.sharp, pictures, subset)


def _matches(pattern: str, files: Iterable[str], subset: str) -> dict[tuple[str, str], str]:
    """Paths that fit a pattern, by (scene, name)."""
    parts = re.split(r"(\{\w+\})", pattern.replace("{subset}", subset))
    groups = {"{scene}": "(?P<scene>[^/]+)", "{name}": "(?P<name>[^/]+)"}
    compiled = re.compile("".join(groups.get(part, re.escape(part)) for part in parts))
    found = {}
    for file in files:
        if match := compiled.fullmatch(file):
            places = match.groupdict()
            scene = places.get("scene") or PurePosixPath(places["name"]).stem
            found[scene, places["name"]] = file
    return found


def _list_csv(source: Location) -> Listing:
    try:
        with reachable(source):
            text = source.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no list {source}: {_EXPECTED} (docs/data.md)") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not a list in UTF-8: {error}") from None
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"blur", "sharp"} <= rows[0].keys():
        head = text.partition("\n")[0][:80]
        raise DataError(
            f"{source} begins with '{head}': expected a first line that names the columns blur "
            "and sharp, and optionally split, scene and name, then a line a pair"
        )
    splits: dict[str, list[Pair]] = {}
    for line, row in enumerate(rows, start=2):
        if not row["blur"] or not row["sharp"]:
            raise DataError(f"{source}, line {line}: blur or sharp is empty; fill or remove it")
        blur = _below(source.parent, row["blur"])
        name = row.get("name") or blur.name
        scene = row.get("scene") or PurePosixPath(name).stem
        pair = Pair(scene, name, blur, _below(source.parent, row["sharp"]))
        splits.setdefault(row.get("split") or UNDIVIDED, []).append(pair)
    if set(splits) != {UNDIVIDED} and (unknown := splits.keys() - set(SPLITS)):
        found = "empty" if UNDIVIDED in unknown else f"'{sorted(unknown)[0]}'"
        raise DataError(
            f"{source}: a split is {found}, expected one of {', '.join(SPLITS)} on every line, or "
            "no column split at all"
        )
    return Listing("csv", {split: _sorted(splits[split]) for split in splits})


def _below(folder: Location, address: str) -> Location:
    """An address as it stands, or a path below ``folder``."""
    return location(address) if "://" in address else folder / address


def _sorted(pairs: Iterable[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: (pair.scene, pair.name))


def _divided(listing: Listing, hold_out: float, folder: str = "") -> Listing:
    """The listing with its splits in order; an undivided one divided by scene.

    A folder called train, val or test is that split.
    """
    splits = listing.splits
    if UNDIVIDED in splits:
        pairs, splits = splits[UNDIVIDED], {}
        by_scene = divide({pair.scene for pair in pairs}, hold_out)
        for pair in pairs:
            split = folder if folder in SPLITS else by_scene[pair.scene]
            splits.setdefault(split, []).append(pair)
    ordered = {split: splits[split] for split in SPLITS if split in splits}
    return Listing(listing.layout, ordered, listing.unpaired)
