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

from collections.abc import Callable, Iterable, Sequence
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
    out = _zeros_like(tiles[0], (*tiles[0].shape[:-2], plan.height, plan.width))
    for index, tile in enumerate(tiles):
        _add(out, tile, plan, index)
    return out


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
        ``[1, C', H, W]`` of the model's kind, dtype and device. Beyond the result only the batches
        that ``side_by_side`` has asked for are held, with ``map`` one.
    """
    plan = TilePlan(int(picture.shape[-2]), int(picture.shape[-1]), tile, overlap)
    batches = [range(n, min(n + batch, len(plan))) for n in range(0, len(plan), batch)]
    cut = (_concatenate([plan.cut(picture, index) for index in indices]) for indices in batches)
    out: Any = None
    for indices, results in zip(batches, side_by_side(model, cut), strict=True):
        if out is None:
            out = _zeros_like(results, (1, results.shape[1], plan.height, plan.width))
        for result, index in zip(results, indices, strict=True):
            _add(out[0], result, plan, index)
    return out


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


def _add(out: Any, tile: Any, plan: TilePlan, index: int) -> None:
    row, column = plan.origin(index)
    weight = plan.weight(index)
    height, width = weight.shape
    target = out[..., row : row + height, column : column + width]
    target += tile[..., :height, :width] * _as_kind_of(tile, weight)


def _zeros_like(example: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(example, np.ndarray):
        return np.zeros(shape, dtype=example.dtype)
    return example.new_zeros(shape)


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
