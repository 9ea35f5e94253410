"""What changed from one version of a data set to another."""

from dataclasses import dataclass

from deblur.data.manifest import Manifest, PairEntry

_Place = tuple[str, str, str]


@dataclass(frozen=True)
class Difference:
    """Pairs by ``split/scene/name``.

    Attributes:
        added, removed: pairs that only one of the versions has.
        changed: pairs of which a picture has other bytes now.
        moved: pairs with the same pictures in another place; from where to where. A pair that
            moved between training and test makes the figures of the versions incomparable.
        settings: what else differs, as sentences: subset, kind.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.changed, self.moved, self.settings))


def compare(old: Manifest, new: Manifest) -> Difference:
    """What ``new`` changed of ``old``."""
    before, after = _places(old), _places(new)
    gone = {place: entry for place, entry in before.items() if place not in after}
    come = {place: entry for place, entry in after.items() if place not in before}
    moved = []
    by_content: dict[tuple[str, str], list[_Place]] = {}
    for place, entry in gone.items():
        by_content.setdefault(_content(entry), []).append(place)
    for place, entry in list(come.items()):
        if origins := by_content.get(_content(entry)):
            origin = origins.pop(0)
            moved.append(("/".join(origin), "/".join(place)))
            del come[place], gone[origin]
    return Difference(
        added=_names(come),
        removed=_names(gone),
        changed=_names(
            {p: e for p, e in after.items() if p in before and _content(before[p]) != _content(e)}
        ),
        moved=tuple(sorted(moved)),
        settings=tuple(
            f"{name} was {getattr(old, name)}, is now {getattr(new, name)}"
            for name in ("subset", "kind")
            if getattr(old, name) != getattr(new, name)
        ),
    )


def _places(manifest: Manifest) -> dict[_Place, PairEntry]:
    return {
        (split, pair.scene, pair.name): pair
        for split, entries in manifest.splits.items()
        for pair in entries.pairs
    }


def _content(entry: PairEntry) -> tuple[str, str]:
    return entry.blur_sha256, entry.sharp_sha256


def _names(places: dict[_Place, PairEntry]) -> tuple[str, ...]:
    return tuple(sorted("/".join(place) for place in places))
