"""Whether the borders of the tiles show: steps, shading and errors where tiles meet.

A tile's result may depend on the whole tile, as it does with GroupNorm, so two neighbours disagree
about the pixels that they share. What the blending leaves of that is measured where every step is a
fault: on flat fields, and on a drawn sky that reaches from calm tiles into busy ones. On
photographs, where content hides a seam from any plain measure, the result is compared with that of
single tiles laid across the borders: the same lines of the same pictures without a border.

``docs/tiling.md`` derives the bounds and says how many pictures it takes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from deblur.errors import ConfigError
from deblur.evaluation import Predict
from deblur.gates.check import Check
from deblur.gates.drawn import FIELDS, Colour, flat
from deblur.images import to_float
from deblur.progress import SILENT, Progress
from deblur.tiling import ALIGNMENT, TilePlan

#: A blurred picture and its sharp original, ``[H, W, 3]`` uint8 each.
PairPixels = tuple[np.ndarray, np.ndarray]

SMALLEST_TILE = 64
_SKY = (120, 160, 210)
#: Lines looked at to either side of a border: what a network does to the edge of a tile may end in
#: a step some lines away from it.
_REACH = 7
#: Columns beyond either end of a ramp that give the brightness there.
_BESIDE = 8
#: Steps of this energy, in squared levels, leave no trace after rounding. Keeps 0 / 0 away.
_ROUNDING = 0.05**2


class SeamBounds(BaseModel):
    """What is allowed of a seam. Levels are those of 8 bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat_step: float = Field(
        default=0.5, gt=0, description="levels from one pixel of a flat field to the next"
    )
    flat_ripple: float = Field(
        default=2.0, gt=0, description="levels from the lowest to the highest pixel of a flat field"
    )
    sky_step: float = Field(
        default=0.5, gt=0, description="levels that a border adds to a step along a line of the sky"
    )
    sky_shading: float = Field(
        default=2.0, gt=0, description="levels that the sky's brightness changes from tile to tile"
    )
    seam_shading: float = Field(
        default=2.0,
        gt=0,
        description="levels that brightness changes from tile to tile, rms, photographs",
    )
    seam_energy: float = Field(
        default=1.5,
        gt=1,
        description="energy of the error's steps on borders, over that without borders",
    )


#: For models whose tiles come in steps of about a level before they are blended: those of the uint8
#: form are rounded, those in int8 compute so. Of a step that would be lost later, rounding makes a
#: whole level, which is not seen either. What is above one is float32's.
ROUNDED_TILES = SeamBounds(flat_step=1.01, sky_step=1.01)


def check_seams(
    predict: Predict,
    tile: int,
    overlap: int,
    pictures: Sequence[PairPixels],
    progress: Progress = SILENT,
    bounds: SeamBounds = SeamBounds(),
) -> tuple[Check, ...]:
    """Look for the tiles' borders in what a tiled model returns.

    Of each picture the middle is taken, three tiles by three, or two where it is too small for
    that; what is missing to two is mirrored. A picture takes the time of about 13 tiles, the drawn
    ones together that of 29.

    Args:
        predict: the model with its tiling, whole pictures in and out.
        tile, overlap: the geometry that it tiles with, see ``TilePlan``; ``tile`` from 64.
        pictures: blurred and sharp; eight or more, so that a sound model does not fail by chance.
            Without any, only drawn pictures are looked at.
        progress: shows the pictures done.
        bounds: what is allowed; ``ROUNDED_TILES`` for models of the uint8 form or in int8.

    Returns:
        ``flat_step``, ``flat_ripple``, ``sky_step``, ``sky_shading`` and, given pictures,
        ``seam_shading`` and ``seam_energy``.

    Raises:
        ConfigError: the tile is too small for a second one to be laid across its borders.
    """
    if tile < SMALLEST_TILE:
        raise ConfigError(
            f"seams of tiles of {tile} pixels cannot be measured: expected {SMALLEST_TILE} or more"
        )
    with progress.task("seams", len(FIELDS) + 1 + len(pictures), "pictures") as advance:
        steps, ripples = [], []
        for number, colour in enumerate(FIELDS):
            field = _flat_field(colour, tile, overlap, wide=number % 2 == 0)
            step, ripple = _unevenness(_levels(predict, field), tile)
            steps.append(step)
            ripples.append(ripple)
            advance(1)
        sky = _sky(tile, overlap)
        drawn = _across_borders(predict, sky, sky, tile, overlap)
        advance(1)
        found = []
        for blurred, sharp in pictures:
            blurred, sharp = (_fitted(pixels, tile, overlap) for pixels in (blurred, sharp))
            found.append(_across_borders(predict, blurred, sharp, tile, overlap))
            advance(1)
    # np.max hands on a NaN, which fails the check; max may lose it.
    checks = [
        Check(
            "flat_step", float(np.max(steps)), "at most", bounds.flat_step, "levels",
            f"Largest step between neighbouring pixels, {len(FIELDS)} flat fields",
        ),
        Check(
            "flat_ripple", float(np.max(ripples)), "at most", bounds.flat_ripple, "levels",
            f"Largest difference within a field, {len(FIELDS)} flat fields",
        ),
        Check(
            "sky_step", float(np.max(np.abs(drawn.added))), "at most", bounds.sky_step, "levels",
            "Largest step along a border in a flat sky beside strong texture",
        ),
        Check(
            "sky_shading", float(np.max(np.abs(drawn.shading))), "at most", bounds.sky_shading,
            "levels", "Largest change from tile to tile in a flat sky beside strong texture",
        ),
    ]  # fmt: skip
    if found:
        shading = np.concatenate([lines.shading.ravel() for lines in found])
        checks += [
            Check(
                "seam_shading", float(np.sqrt(np.mean(shading**2))), "at most",
                bounds.seam_shading, "levels",
                f"Change of brightness from tile to tile, rms over {len(found)} pictures",
            ),
            Check(
                "seam_energy", _energy_ratio(found), "at most", bounds.seam_energy, "",
                "Squared steps of the error along borders over those of tiles without a border "
                f"there, geometric mean of {len(found)} pictures",
            ),
        ]  # fmt: skip
    return tuple(checks)


class _Lines(NamedTuple):
    """What lies on the borders of one picture, in levels. A segment is half a border in a window.

    Attributes:
        tiled: squared mean step of the error along a segment, ``[segments, offsets, 3]``; the
            offsets are lines from ``-_REACH`` to ``_REACH`` beside the border.
        single: the same of a single tile laid across.
        added: the mean step along a segment less that of the single tile, same shape.
        shading: what a ramp adds to the change of brightness along it, ``[segments, 3]``.
    """

    tiled: np.ndarray
    single: np.ndarray
    added: np.ndarray
    shading: np.ndarray


def _across_borders(
    predict: Predict, blurred: np.ndarray, sharp: np.ndarray, tile: int, overlap: int
) -> _Lines:
    """Lay a tile across every point where four tiles meet, and compare."""
    height, width = blurred.shape[:2]
    plan = TilePlan(height, width, tile, overlap)
    whole = _levels(predict, blurred)
    found = []
    for rows in pairwise(plan.rows):
        for columns in pairwise(plan.columns):
            (top, row_ends), (left, column_ends) = _middle(rows, tile), _middle(columns, tile)
            window = slice(top, top + tile), slice(left, left + tile)
            single = _levels(predict, np.ascontiguousarray(blurred[window]))
            errors = [
                pixels - sharp[window].astype(np.float64) for pixels in (whole[window], single)
            ]
            found.append(_beside(errors, column_ends))
            found.append(_beside([error.swapaxes(0, 1) for error in errors], row_ends))
    return _Lines(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _middle(origins: tuple[int, int], tile: int) -> tuple[int, tuple[int, int]]:
    """Of two neighbours along an axis: the origin of a tile laid across what they share, and where
    in it the second one begins and the first has ended."""
    first, second = origins
    origin = (first + second) // 2 // ALIGNMENT * ALIGNMENT
    return origin, (second - origin, first + tile - origin)


def _beside(errors: Sequence[np.ndarray], ends: tuple[int, int]) -> _Lines:
    """What lies on the two vertical borders of a window.

    Args:
        errors: of the tiled picture and of the single tile, ``[tile, tile, 3]`` in levels.
        ends: the first column of the second tile and the first behind the first tile.
    """
    tile = len(errors[0])
    on_borders, without, added, shading = [], [], [], []
    for rows in (slice(tile // 8, tile // 2), slice(tile // 2, tile - tile // 8)):
        tiled, single = (error[rows].mean(axis=0) for error in errors)
        change = tiled - single
        begin, end = ends
        shading.append(
            change[end : end + _BESIDE].mean(axis=0) - change[begin - _BESIDE : begin].mean(axis=0)
        )
        for line in ends:
            lines = slice(line - _REACH - 1, line + _REACH + 1)
            on_borders.append(np.diff(tiled[lines], axis=0) ** 2)
            without.append(np.diff(single[lines], axis=0) ** 2)
            added.append(np.diff(change[lines], axis=0))
    return _Lines(*(np.array(part) for part in (on_borders, without, added, shading)))


def _energy_ratio(found: Sequence[_Lines]) -> float:
    """Geometric mean over the pictures, so that no busy picture outweighs the others; of the
    offsets, the worst."""
    tiled, single = (
        np.array([energies.mean(axis=(0, 2)) for energies in of_pictures]) + _ROUNDING
        for of_pictures in ([lines.tiled for lines in found], [lines.single for lines in found])
    )
    return float(np.exp(np.mean(np.log(tiled / single), axis=0).max()))


def _unevenness(field: np.ndarray, tile: int) -> tuple[float, float]:
    """Largest step and largest difference within what became of a flat field.

    The network's own padding shows at the first pixels of a picture however it is tiled: they are
    left out, and so is the end of the long side, where the tile reaches hardly further.
    """
    margin = tile // 8
    wide = field if field.shape[1] > field.shape[0] else field.swapaxes(0, 1)
    inner = wide[margin:, margin:-margin]
    step = max(np.abs(np.diff(inner, axis=axis)).max() for axis in (0, 1))
    return float(step), float(np.ptp(inner, axis=(0, 1)).max())


def _flat_field(colour: Colour, tile: int, overlap: int, wide: bool) -> np.ndarray:
    """Three tiles one way, three quarters of a tile the other: blended there, mirrored here."""
    short, long = 3 * tile // 4, 2 * tile - overlap + 8
    return flat(short, long, colour) if wide else flat(long, short, colour)


def _sky(tile: int, overlap: int) -> np.ndarray:
    """Two tiles by two: the first one flat, in the others a strong texture at their far ends."""
    side = 2 * tile - overlap
    begin = side - (tile - overlap) // 2
    blocks = np.random.default_rng(0).choice([20, 220], size=(side // 4, side // 4))
    texture = np.kron(blocks, np.ones((4, 4))).astype(np.uint8)[..., None]
    sky = flat(side, side, _SKY)
    sky[begin:] = texture[begin:]
    sky[:, begin:] = texture[:, begin:]
    return sky


def _fitted(pixels: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """The middle of a picture, so large that neighbours share ``overlap`` pixels exactly."""
    two, three = 2 * tile - overlap, 3 * tile - 2 * overlap
    for axis in (0, 1):
        side = three if pixels.shape[axis] >= three else two
        missing = max(0, side - pixels.shape[axis])
        widths = [(0, missing if other == axis else 0) for other in range(3)]
        pixels = np.pad(pixels, widths, mode="reflect")
        first = (pixels.shape[axis] - side) // 2
        pixels = np.take(pixels, range(first, first + side), axis=axis)
    return np.ascontiguousarray(pixels)


def _levels(predict: Predict, pixels: np.ndarray) -> np.ndarray:
    """What the model makes of ``[H, W, 3]`` uint8: float64 in 0 to 255, clamped, not rounded."""
    planes = predict(to_float(pixels)).astype(np.float64)
    return (np.clip(planes[0], -1.0, 1.0).transpose(1, 2, 0) + 1.0) * 127.5
