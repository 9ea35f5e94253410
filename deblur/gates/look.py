"""Everything that is checked of a model by itself, without another one beside it."""

from deblur.data.pairs import Pairs
from deblur.evaluation import Predict, Scores
from deblur.gates.check import Check
from deblur.gates.harm import check_harm, harm_of_scores
from deblur.gates.seams import ROUNDED_TILES, SMALLEST_TILE, SeamBounds, check_seams
from deblur.progress import SILENT, Progress

#: Pictures in which harm and seams are looked for.
LOOKED_AT = 12


def look(
    predict: Predict,
    tile: int,
    overlap: int,
    pairs: Pairs,
    scores: Scores,
    rounded: bool = False,
    progress: Progress = SILENT,
) -> tuple[Check, ...]:
    """The checks of harm and of seams.

    Args:
        predict: the model with its tiling.
        tile, overlap: the geometry of its tiles in pixels.
        pairs: pictures, of which up to twelve, spread evenly, are looked at.
        scores: of the model on all of them.
        rounded: whether what it returns comes in steps of about a level of 8 bit.
        progress: shows the pictures.

    Returns:
        The checks; tiles too small to be measured fail one.
    """
    looked_at = [pairs.read(index) for index in some_of(pairs, LOOKED_AT)]
    harm = check_harm(predict, [sharp for _, sharp in looked_at], progress)
    if tile < SMALLEST_TILE:
        about = f"tiles of {tile} pixels, where only tiles from {SMALLEST_TILE} can be measured"
        seams: tuple[Check, ...] = (Check("seams", float("nan"), "at most", 0.0, "", about),)
    else:
        bounds = ROUNDED_TILES if rounded else SeamBounds()
        seams = check_seams(predict, tile, overlap, looked_at, progress, bounds)
    return (*harm_of_scores(scores), *harm, *seams)


def some_of(pairs: Pairs, count: int) -> range:
    """Indices of up to ``count`` pairs, a constant step apart from the first one on."""
    return range(0, len(pairs), max(1, len(pairs) // count))[:count]
