"""The one tiler: cut a picture of any size into equal tiles, and blend the results seamlessly.

Used by evaluation during training, by the export check, the server and the command line, so that
a figure measured anywhere was measured on the same tiles. Works alike on NumPy arrays and on torch
tensors of any device, and imports neither torch nor anything heavy.

Geometry. Every tile is ``tile x tile``. Origins lie on multiples of 16, the U-Net's total stride,
so that its pooling grid falls on the same pixels in every tile. Tiles are spread evenly, with at
least ``overlap`` pixels shared between neighbours. What a tile needs beyond the border is mirrored.

Blending. Along each axis every tile carries a linear ramp at both ends; the ramps are divided by
their sum, so the weights of all tiles at a pixel add up to one (linear feathering). The
two-dimensional weight is the product of the two axes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

DEFAULT_TILE = 256
DEFAULT_OVERLAP = 64
ALIGNMENT = 16

#: A NumPy array or a torch tensor, the same kind in and out.
Array = TypeVar("Array", bound=Any)


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of one picture lie and how they are blended.

    Attributes:
        height, width: size of the picture in pixels.
        tile: side of a tile, a multiple of 16.
        overlap: pixels that neighbours share at least, a multiple of 16, at most half a tile.
    """

    height: int
    width: int
    tile: int = DEFAULT_TILE
    overlap: int = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a picture has at least 1x1 pixels, got {self.height}x{self.width}")
        if self.tile < ALIGNMENT or self.tile % ALIGNMENT:
            raise ValueError(f"tile must be a positive multiple of {ALIGNMENT}, got {self.tile}")
        if not 0 <= self.overlap <= self.tile // 2 or self.overlap % ALIGNMENT:
            raise ValueError(
                f"overlap must be a multiple of {ALIGNMENT} from 0 to half a tile "
                f"({self.tile // 2}), got {self.overlap}"
            )

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The tiles' first rows, ascending."""
        return _origins(self.height, self.tile, self.overlap)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The tiles' first columns, ascending."""
        return _origins(self.width, self.tile, self.overlap)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def origin(self, index: int) -> tuple[int, int]:
        """First row and column of tile ``index``; tiles are counted row by row."""
        row, column = divmod(index, len(self.columns))
        return self.rows[row], self.columns[column]

    def cut(self, picture: Array, index: int) -> Array:
        """Tile ``index`` of ``picture`` ``[..., H, W]``, mirrored where it passes the border."""
        row, column = self.origin(index)
        if row + self.tile <= self.height and column + self.tile <= self.width:
            return picture[..., row : row + self.tile, column : column + self.tile]
        rows = _mirrored(row, self.tile, self.height)
        columns = _mirrored(column, self.tile, self.width)
        return picture[..., rows, :][..., columns]

    def weight(self, index: int) -> np.ndarray:
        """Share of tile ``index`` in the picture: ``[h, w]`` float32, h and w cut at the border."""
        row, column = divmod(index, len(self.columns))
        return np.outer(self._row_weights[row], self._column_weights[column]).astype(np.float32)

    @cached_property
    def _row_weights(self) -> list[np.ndarray]:
        return _shares(self.rows, self.height, self.tile, self.overlap)

    @cached_property
    def _column_weights(self) -> list[np.ndarray]:
        return _shares(self.columns, self.width, self.tile, self.overlap)


class Blending:
    """The tiles of one picture, added in the plan's order. Rows come out as soon as no later tile
    can change them, so that beyond the tile at hand only ``tile`` rows are held.

    The order is fixed because sums of floats depend on it: a picture's pixels do not, on how many
    tiles were computed side by side.
    """

    def __init__(self, plan: TilePlan) -> None:
        self.plan = plan
        self._next = 0
        self._band: Any = None  # [..., tile, width], from the first row of the tile at hand
        self._begun: Any = None  # [..., n, width], its first rows, from the row of tiles before

    def add(self, tile: Array) -> tuple[int, Array] | None:
        """Add the next tile ``[..., tile, tile]``.

        Returns:
            After the last tile of a row of tiles, the first row that is finished by it and the
            finished rows ``[..., n, width]``; otherwise ``None``.
        """
        plan, index = self.plan, self._next
        self._next += 1
        if self._band is None:
            self._band = self._new_band(tile)
        row, column = plan.origin(index)
        weight = plan.weight(index)
        height, width = weight.shape
        target = self._band[..., :height, column : column + width]
        target += tile[..., :height, :width] * _as_kind_of(tile, weight)
        if self._next % len(plan.columns):
            return None
        end = plan.origin(self._next)[0] if self._next < len(plan) else plan.height
        band, self._band = self._band, None
        self._begun = _copy(band[..., end - row :, :])
        return row, band[..., : end - row, :]

    def _new_band(self, tile: Array) -> Array:
        band = _zeros_like(tile, (*tile.shape[:-2], self.plan.tile, self.plan.width))
        if self._begun is not None:
            band[..., : self._begun.shape[-2], :] = self._begun
        return band

    def add_all(self, tiles: Iterable[Array]) -> Iterator[tuple[int, Array]]:
        """Add one tile after the other, and give the rows as they are finished."""
        for tile in tiles:
            finished = self.add(tile)
            if finished is not None:
                yield finished


def tile_tensor(
    picture: Array, tile: int = DEFAULT_TILE, overlap: int = DEFAULT_OVERLAP
) -> tuple[list[Array], TilePlan]:
    """Cut ``[..., H, W]`` into tiles ``[..., tile, tile]``, on the device it lies on."""
    plan = TilePlan(int(picture.shape[-2]), int(picture.shape[-1]), tile, overlap)
    return [plan.cut(picture, index) for index in range(len(plan))], plan


def stitch_tiles(tiles: Sequence[Array], plan: TilePlan) -> Array:
    """Blend tiles ``[..., tile, tile]`` in the plan's order into ``[..., H, W]``."""
    if len(tiles) != len(plan):
        raise ValueError(f"the plan has {len(plan)} tiles, got {len(tiles)}")
    return _stack_of_rows(Blending(plan).add_all(tiles), plan)


def create_blend_weight(
    tile: int = DEFAULT_TILE, overlap: int = DEFAULT_OVERLAP, like: Any = None
) -> Any:
    """Linear feather of one tile, before the shares are normalised: ``[tile, tile]`` float32.

    It rises from the edge over ``overlap`` pixels to one. Two of them ``tile - overlap`` apart add
    up to one. A NumPy array, or a tensor on the device of ``like`` when that is given.
    """
    ramp = _feather(tile, overlap)
    weight = np.outer(ramp, ramp).astype(np.float32)
    return weight if like is None else _as_kind_of(like, weight)


def apply_tiled(
    picture: Array,
    model: Callable[[Array], Array],
    tile: int = DEFAULT_TILE,
    overlap: int = DEFAULT_OVERLAP,
    batch: int = 1,
    side_by_side: Callable[[Callable[[Array], Array], Iterable[Array]], Iterable[Array]] = map,
) -> Array:
    """Run ``model`` over the tiles of one picture and blend what it returns.

    Args:
        picture: ``[1, C, H, W]``, any size from 1x1.
        model: maps ``[n, C, tile, tile]`` to ``[n, C', tile, tile]``.
        tile, overlap: the geometry, see ``TilePlan``.
        batch: tiles a call at most.
        side_by_side: how the model is called on one batch after the other; gives the results in
            the order of the batches, as ``map`` does. Only the calls may happen in other threads.

    Returns:
        ``[1, C', H, W]`` of the model's kind, dtype and device. Beyond the result only ``tile``
        rows are held, and the batches that ``side_by_side`` has asked for, with ``map`` one.
    """
    plan = TilePlan(int(picture.shape[-2]), int(picture.shape[-1]), tile, overlap)
    batches = [range(n, min(n + batch, len(plan))) for n in range(0, len(plan), batch)]
    cut = (_concatenate([plan.cut(picture, index) for index in indices]) for indices in batches)
    results = (result[None] for batch in side_by_side(model, cut) for result in batch)
    return _stack_of_rows(Blending(plan).add_all(results), plan)


def _origins(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    if size <= tile:
        return (0,)
    stride = tile - overlap
    last = -(-(size - tile) // ALIGNMENT) * ALIGNMENT
    count = -(-last // stride) + 1
    # Rounding down keeps neighbours at most a stride apart, because the stride is aligned too.
    return tuple(i * last // (count - 1) // ALIGNMENT * ALIGNMENT for i in range(count))


def _mirrored(start: int, length: int, size: int) -> np.ndarray:
    """Indices ``start .. start + length`` folded into ``0 .. size - 1``, borders not repeated."""
    if size == 1:
        return np.zeros(length, dtype=np.int64)
    period = 2 * (size - 1)
    folded = np.arange(start, start + length) % period
    return np.where(folded < size, folded, period - folded)


def _feather(tile: int, overlap: int) -> np.ndarray:
    ramp = np.ones(tile, dtype=np.float64)
    if overlap:
        rise = (np.arange(overlap) + 0.5) / overlap
        ramp[:overlap] = np.minimum(ramp[:overlap], rise)
        ramp[-overlap:] = np.minimum(ramp[-overlap:], rise[::-1])
    return ramp


def _shares(origins: tuple[int, ...], size: int, tile: int, overlap: int) -> list[np.ndarray]:
    ramps = [_feather(tile, overlap) for _ in origins]
    # There is nothing to fade into at the picture's own borders. A ramp there would take the outer
    # tile's share away where a neighbour that lies only 16 pixels off is at its full one.
    ramps[0][: tile // 2] = 1.0
    ramps[-1][tile // 2 :] = 1.0
    total = np.zeros(size, dtype=np.float64)
    for origin, ramp in zip(origins, ramps, strict=True):
        total[origin : origin + tile] += ramp[: size - origin]
    return [
        ramp[: size - origin] / total[origin : origin + tile]
        for origin, ramp in zip(origins, ramps, strict=True)
    ]


def _stack_of_rows(finished: Iterable[tuple[int, Any]], plan: TilePlan) -> Any:
    """Finished rows as one array ``[..., height, width]``."""
    out: Any = None
    for first, rows in finished:
        if out is None:
            out = _zeros_like(rows, (*rows.shape[:-2], plan.height, plan.width))
        out[..., first : first + rows.shape[-2], :] = rows
    return out


def _zeros_like(example: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(example, np.ndarray):
        return np.zeros(shape, dtype=example.dtype)
    return example.new_zeros(shape)


def _copy(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def _as_kind_of(example: Any, array: np.ndarray) -> Any:
    return array if isinstance(example, np.ndarray) else example.new_tensor(array)


def _concatenate(tiles: list[Any]) -> Any:
    if len(tiles) == 1:
        return tiles[0]
    if isinstance(tiles[0], np.ndarray):
        return np.concatenate(tiles)
    # A torch tensor brings its own library; importing it here would load it into the server.
    import torch

    return torch.cat(tiles)
