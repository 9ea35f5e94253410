"""The pictures of the report: the same detail before, after and sharp, and where the errors are."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deblur.data.pairs import Pairs
from deblur.evaluation import PictureScore, Predict, Scores
from deblur.images import Picture, encode_picture, to_float, to_uint8
from deblur.progress import SILENT, Progress
from deblur.sheet import strongest_detail

#: Side of a detail in pixels: a column of the page.
_DETAIL = 320
#: The colours of errors from none to the scale's end, dark to light.
COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
#: The scale's end covers this share of the errors shown; the few beyond it have its colour.
_COVERED = 0.995


@dataclass(frozen=True)
class Example:
    """A picture to look at: which it is, and details of it, ``[h, w, 3]`` uint8 each."""

    role: str
    score: PictureScore
    blurred: np.ndarray
    result: np.ndarray
    sharp: np.ndarray


@dataclass(frozen=True)
class Panels:
    """An example as the page shows it: data URIs of JPEG pictures."""

    role: str
    score: PictureScore
    blurred: str
    result: str
    sharp: str
    error_before: str
    error_after: str


def chosen(scores: Scores) -> dict[str, int]:
    """The best, the median and the worst picture by gain: places in ``scores.pictures``."""
    gains = {n: p.gain for n, p in enumerate(scores.pictures) if math.isfinite(p.gain)}
    ranked = sorted(gains, key=lambda number: gains[number], reverse=True)
    if not ranked:
        return {}
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    found: dict[str, int] = {}
    for role, place in places.items():
        if ranked[place] not in found.values():
            found[role] = ranked[place]
    return found


def examples(
    scores: Scores, pairs: Pairs, predict: Predict, progress: Progress = SILENT
) -> list[Example]:
    """The chosen pictures, predicted once more rather than kept since they were scored.

    The detail is that of the sharp picture with the strongest contrast: chosen without looking at
    the result.

    Args:
        scores: of all ``pairs``, in their order.
        pairs: the pictures that were scored.
        predict: the model that was scored.
        progress: shows the pictures.
    """
    places = chosen(scores)
    found = []
    with progress.task("examples", len(places), "pictures") as advance:
        for role, index in places.items():
            blurred, sharp = pairs.read(index)
            result = to_uint8(predict(to_float(blurred)))
            box = strongest_detail(sharp, _DETAIL)
            details = (np.array(picture[box]) for picture in (blurred, result, sharp))
            found.append(Example(role, scores.pictures[index], *details))
            advance(1)
    return found


def panels(shown: Sequence[Example]) -> tuple[list[Panels], int]:
    """The examples as the page shows them, and the end of their common scale of errors in grey
    levels."""
    errors = [(_error(e.blurred, e.sharp), _error(e.result, e.sharp)) for e in shown]
    end = _scale_end([error for both in errors for error in both])
    drawn = [
        Panels(
            role=example.role,
            score=example.score,
            blurred=data_uri(example.blurred),
            result=data_uri(example.result),
            sharp=data_uri(example.sharp),
            error_before=data_uri(coloured(before, end)),
            error_after=data_uri(coloured(after, end)),
        )
        for example, (before, after) in zip(shown, errors, strict=True)
    ]
    return drawn, end


def coloured(error: np.ndarray, end: float) -> np.ndarray:
    """Errors ``[h, w]`` in grey levels as colours ``[h, w, 3]`` uint8, on a scale from 0."""
    places = np.linspace(0.0, end, len(COLOURS))
    channels = [np.interp(error, places, [colour[c] for colour in COLOURS]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _error(picture: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """Absolute error of each pixel in grey levels, the mean of its channels: ``[h, w]``."""
    return np.abs(picture.astype(np.float64) - sharp.astype(np.float64)).mean(axis=2)


def _scale_end(errors: Sequence[np.ndarray]) -> int:
    """A multiple of ten that covers nearly all errors."""
    if not errors:
        return 10
    largest = float(np.quantile(np.concatenate([error.ravel() for error in errors]), _COVERED))
    return max(10, 10 * math.ceil(largest / 10.0))


def data_uri(pixels: np.ndarray) -> str:
    """A picture ``[h, w, 3]`` uint8 as an address that holds it, in JPEG."""
    encoded = encode_picture(Picture(np.ascontiguousarray(pixels)), "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
