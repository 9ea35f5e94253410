"""Fingerprints by which a picture is found again after recompression, scaling or brightening.

Bits are signs of low spatial frequencies against their median: Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2 (pHash). Each comes with a mask
of the bits that are more than noise, and distances count those alone: Daugman, "High Confidence
Visual Recognition of Persons by a Test of Statistical Independence", PAMI 1993. Without it the
undecided bits of smooth pictures drown the others.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

#: Bits of a fingerprint; as many more are its mask.
BITS = 256
#: Two pictures are compared only if they share as many decided bits: two different ones then
#: come to a distance of 32 by chance in one of 10^14 comparisons.
COMMON = 96
_SIDE, _LOW = 64, 16
#: One grey level in a cell of the reduction: what JPEG and scaling may change. A transform of
#: cells with deviation s has coefficients with deviation s * _SIDE / 2.
_NOISE = 1.0
#: Fingerprints that are compared at a time: what comes up in between stays in the cache.
_ROWS, _COLUMNS = 64, 2048


def fingerprint(grey: np.ndarray) -> str:
    """256 bits and their mask as 128 hexadecimal digits.

    Args:
        grey: ``[H, W]`` float32 in 0..255.
    """
    small = Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    transform = _COSINES @ np.asarray(small, np.float64) @ _COSINES.T
    above = transform - np.median(transform.ravel()[1:])  # the first is the mean level
    decided = np.abs(above) > _NOISE * _SIDE / 2
    return np.packbits(above > 0).tobytes().hex() + np.packbits(decided).tobytes().hex()


def nearest_matches(
    these: Sequence[str],
    others: Sequence[str],
    largest: float,
    apart: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[tuple[int, int, float]]:
    """For each of ``these`` the nearest of ``others``, if it is near enough.

    Args:
        these, others: fingerprints.
        largest: distance that counts as a match, in bits of 256.
        apart: group numbers of both, ``[N]`` and ``[M]``: where given, only pictures of a group
            with a smaller number are compared.

    Yields:
        ``(index in these, index in others, distance)``, the distance scaled to 256 bits.
    """
    if not these or not others:
        return
    ours, theirs = _words(these), _words(others)
    for start in range(0, len(these), _ROWS):
        best: dict[int, tuple[float, int]] = {}
        rows = slice(start, start + _ROWS)
        for first in range(0, len(others), _COLUMNS):
            columns = slice(first, first + _COLUMNS)
            if apart is not None and apart[1][columns].min() >= apart[0][rows].max():
                continue
            differing, common = _compare(ours, rows, theirs, columns)
            # Scaled up no distance gets smaller, so few are left to be scaled.
            row, column = np.nonzero(differing <= largest)
            shared = common[row, column]
            distance = differing[row, column] * (BITS / np.maximum(shared, 1))
            near = (shared >= COMMON) & (distance <= largest)
            if apart is not None:
                near &= apart[1][first + column] < apart[0][start + row]
            row, column, distance = row[near], column[near], distance[near]
            nearest_first = np.lexsort((column, distance, row))
            in_order = row[nearest_first]
            for at in nearest_first[np.flatnonzero(np.diff(in_order, prepend=-1))]:
                found = (float(distance[at]), first + int(column[at]))
                best[int(row[at])] = min(best.get(int(row[at]), found), found)
        for number, (bits, index) in sorted(best.items()):
            yield start + number, index, bits


def _compare(
    ours: tuple[np.ndarray, np.ndarray],
    rows: slice,
    theirs: tuple[np.ndarray, np.ndarray],
    columns: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of differing and of common bits, ``[rows, columns]`` uint16 each."""
    differing = common = np.uint16(0)
    for word in range(BITS // 64):
        shared = ours[1][rows, None, word] & theirs[1][None, columns, word]
        common = common + np.bitwise_count(shared)
        shared &= ours[0][rows, None, word] ^ theirs[0][None, columns, word]
        differing = differing + np.bitwise_count(shared)
    return np.asarray(differing), np.asarray(common)


def _words(fingerprints: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Bits and masks, ``[N, 4]`` uint64 each."""
    raw = np.frombuffer(bytes.fromhex("".join(fingerprints)), np.uint64)
    both = raw.reshape(len(fingerprints), 2, BITS // 64)
    return both[:, 0], both[:, 1]


def _cosines() -> np.ndarray:
    """The lowest rows of the DCT-II, ``[16, 64]``."""
    places = 2 * np.arange(_SIDE) + 1
    return np.cos(np.pi * places[None] * np.arange(_LOW)[:, None] / (2 * _SIDE))


_COSINES = _cosines()
