"""From measures to findings: what is wrong with pairs, with splits and with the whole set."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from deblur.data.listing import Listing
from deblur.data.validation.config import CHECKS, ValidationConfig
from deblur.data.validation.copies import find_copies, find_leaks
from deblur.data.validation.drift import compare
from deblur.data.validation.findings import Entry, Finding, Rules
from deblur.data.validation.pair_checks import Subject, converted, pair_cause

#: Fewer pairs have no usual PSNR.
_ENOUGH = 8
#: Deviations of PSNR are at least as large, in dB: where all pairs are alike, trifles stand out.
_LEAST_DEVIATION = 1.0
#: Probability below which two sets are said to differ, if they do by as much as the threshold.
_SIGNIFICANT = 0.01

#: What is compared with a reference, and its name for people.
COMPARED = {
    "psnr": "PSNR of the blurred pictures in dB",
    "level": "mean level of the sharp pictures",
    "sharpness": "gradient of the sharp pictures",
}


def check_data(
    listing: Listing,
    entries: Sequence[Entry],
    crop: int,
    config: ValidationConfig,
    reference: Mapping[str, Sequence[float]] | None = None,
) -> list[Finding]:
    """All findings, in the order of ``CHECKS``.

    Args:
        listing: what the data set holds.
        entries: its pairs, measured.
        crop: side of the training crops in pixels.
        config: the rules.
        reference: values of an earlier data set by the keys of ``COMPARED``.
    """
    rules = Rules(config)
    findings = [*_splits(listing, rules), *_unpaired(listing, rules)]
    causes: dict[int, str] = {}
    deviations = _deviations(entries)
    for number, entry in enumerate(entries):
        found = pair_cause(Subject(entry, crop, rules, deviations.get(number)))
        if found:
            causes[number] = found.check
            findings.append(found)
        findings.extend(converted(entry, rules))
    findings.extend(_scene_overlap(entries, rules))
    # The sharp picture of another scene is no copy of it: that the pair is wrong is said above.
    own = [e for n, e in enumerate(entries) if causes.get(n) != "different_content"]
    findings.extend(find_leaks(own, rules))
    findings.extend(find_copies(own, rules))
    if reference is not None and rules.on("drift"):
        findings.extend(_drift(distributions(entries), reference, rules))
    return sorted(findings, key=lambda finding: CHECKS.index(finding.check))


def distributions(entries: Sequence[Entry]) -> dict[str, list[float]]:
    """Values of all readable pairs, by the keys of ``COMPARED``."""
    measures = [entry.measures for entry in entries if entry.readable]
    return {
        "psnr": [m.psnr for m in measures if m.psnr is not None],
        "level": [m.sharp.level for m in measures],
        "sharpness": [m.sharp.sharpness for m in measures],
    }


def _deviations(entries: Sequence[Entry]) -> dict[int, float]:
    """Robust z of each pair's PSNR, 0.6745 (x - median) / MAD, by its index.

    Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, section 3.1.
    """
    of_pair = {n: e.measures.psnr for n, e in enumerate(entries) if e.measures.psnr is not None}
    if len(of_pair) < _ENOUGH:
        return {}
    values = np.array(list(of_pair.values()))
    median = np.median(values)
    deviation = max(float(np.median(np.abs(values - median))) / 0.6745, _LEAST_DEVIATION)
    return {n: float((value - median) / deviation) for n, value in of_pair.items()}


def _splits(listing: Listing, rules: Rules) -> Iterator[Finding]:
    held = ", ".join(listing.splits)
    if "train" not in listing.splits and rules.on("no_train"):
        yield rules.finding("no_train", f"there is no split train, only {held}")
    if "test" not in listing.splits and rules.on("no_test"):
        missing = "test" if "val" in listing.splits else "val or test"
        yield rules.finding("no_test", f"there is no split {missing}, only {held}")


def _unpaired(listing: Listing, rules: Rules) -> Iterator[Finding]:
    for lone in listing.unpaired if rules.on("unpaired") else ():
        message = f"{lone.picture} has no counterpart {lone.expected}"
        yield rules.finding("unpaired", message, pictures=(str(lone.picture),))


def _scene_overlap(entries: Sequence[Entry], rules: Rules) -> Iterator[Finding]:
    firsts: dict[str, dict[str, Entry]] = {}
    for entry in entries if rules.on("scene_overlap") else ():
        if entry.has_scene:
            firsts.setdefault(entry.pair.scene, {}).setdefault(entry.split, entry)
    for scene, by_split in firsts.items():
        for one, other in combinations(by_split, 2):
            yield rules.finding(
                "scene_overlap",
                f"scene {scene} is in {one} and in {other}",
                other,
                (by_split[other].pictures[0], by_split[one].pictures[0]),
            )


def _drift(
    found: Mapping[str, Sequence[float]], reference: Mapping[str, Sequence[float]], rules: Rules
) -> Iterator[Finding]:
    for key, name in COMPARED.items():
        here, there = np.array(found[key]), np.array(reference[key])
        if not len(here) or not len(there):
            continue
        comparison = compare(here, there)
        if comparison.distance > rules.threshold("drift") and comparison.p < _SIGNIFICANT:
            yield rules.finding(
                "drift",
                f"the {name} differs from the reference: median {np.median(here):.1f} instead of "
                f"{np.median(there):.1f} (Kolmogorov-Smirnov D = {comparison.distance:.2f}, "
                f"p = {comparison.p:.1g}, expected D of {rules.threshold('drift'):g} at most)",
                value=comparison.distance,
            )
