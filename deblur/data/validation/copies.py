"""The same picture twice: in two splits, where it makes scores too good, or within one."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from deblur.data.layout import SPLITS
from deblur.data.validation.findings import Entry, Finding, Rules
from deblur.data.validation.fingerprint import nearest_matches


def find_leaks(entries: Sequence[Entry], rules: Rules) -> Iterator[Finding]:
    """Pictures of one split that are in another as well: of each pair the nearest match."""
    if not rules.on("leakage"):
        return
    by_split = {split: [e for e in entries if e.split == split] for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        here, there = by_split[other], by_split[one]
        exact = _exact_matches(here, there)
        for index, partner in exact.items():
            yield _leak(here[index], there[partner], 0.0, rules)
        left = [n for n, e in enumerate(here) if n not in exact and e.measures.fingerprint]
        seen = [e for e in there if e.measures.fingerprint]
        for index, partner, distance in nearest_matches(
            [here[n].measures.fingerprint for n in left],
            [e.measures.fingerprint for e in seen],
            rules.threshold("leakage"),
        ):
            yield _leak(here[left[index]], seen[partner], distance, rules)


def _leak(entry: Entry, twin: Entry, distance: float, rules: Rules) -> Finding:
    how = "the same as" if distance == 0.0 else f"{distance:.0f} of 256 bits away from"
    return rules.finding(
        "leakage",
        f"{entry.pair.sharp} in {entry.split} is {how} {twin.pair.sharp} in {twin.split}",
        entry.split,
        (str(entry.pair.sharp), str(twin.pair.sharp)),
        distance,
    )


def _exact_matches(here: Sequence[Entry], there: Sequence[Entry]) -> dict[int, int]:
    """Indices of pairs with a picture of equal pixels, and of the first pair that has it too."""
    known: dict[str, int] = {}
    for number, entry in enumerate(there):
        for picture in (entry.measures.blur, entry.measures.sharp):
            if picture.pixels:
                known.setdefault(picture.pixels, number)
    matches: dict[int, int] = {}
    for number, entry in enumerate(here):
        for picture in (entry.measures.sharp, entry.measures.blur):
            if picture.pixels in known:
                matches.setdefault(number, known[picture.pixels])
    return matches


def find_copies(entries: Sequence[Entry], rules: Rules) -> Iterator[Finding]:
    """Blurred pictures that a split holds twice, and scenes that it holds under two names."""
    if not rules.on("duplicate"):
        return
    for split in SPLITS:
        ours = [e for e in entries if e.split == split]
        first: dict[str, Entry] = {}
        copies = set()
        for number, entry in enumerate(ours):
            if not (pixels := entry.measures.blur.pixels):
                continue
            if pixels in first:
                copies.add(number)
                yield rules.finding(
                    "duplicate",
                    f"{entry.pair.blur} is the same picture as {first[pixels].pair.blur}",
                    split,
                    (str(entry.pair.blur), str(first[pixels].pair.blur)),
                    0.0,
                )
            first.setdefault(pixels, entry)
        yield from _same_scene([e for n, e in enumerate(ours) if n not in copies], rules)


def _same_scene(entries: Sequence[Entry], rules: Rules) -> Iterator[Finding]:
    """Sharp pictures of different scenes that look the same.

    Within a scene that is usual: neighbouring frames of a video, several blurs of one photograph.
    Where pictures are not sorted into scenes nobody can tell, so nothing is said.
    """
    ours = [e for e in entries if e.has_scene and e.measures.fingerprint]
    # Several blurs of one photograph have one fingerprint: it is compared once.
    unique = list({(e.pair.scene, e.measures.fingerprint): e for e in reversed(ours)}.values())
    unique.reverse()
    scenes = {scene: n for n, scene in enumerate(dict.fromkeys(e.pair.scene for e in unique))}
    groups = np.array([scenes[e.pair.scene] for e in unique])
    marks = [e.measures.fingerprint for e in unique]
    largest = rules.threshold("duplicate")
    for index, partner, distance in nearest_matches(marks, marks, largest, (groups, groups)):
        entry, twin = unique[index], unique[partner]
        yield rules.finding(
            "duplicate",
            f"{entry.pair.sharp} shows the same as {twin.pair.sharp} of another scene "
            f"({distance:.0f} of 256 bits apart)",
            entry.split,
            (str(entry.pair.sharp), str(twin.pair.sharp)),
            distance,
        )
