"""The tiler gives back what it cuts, for any size, kind and device."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.tiling import TilePlan, apply_tiled, create_blend_weight, stitch_tiles, tile_tensor

SIZES = [(1, 1), (5, 300), (97, 131), (33, 250), (256, 256), (257, 256), (449, 300), (720, 1280)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stitching_the_tiles_gives_the_picture_back(height: int, width: int) -> None:
    picture = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    tiles, plan = tile_tensor(picture)
    assert {tuple(tile.shape) for tile in tiles} == {(2, 3, 256, 256)}
    assert (stitch_tiles(tiles, plan) - picture).abs().max() <= 1e-6


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    tile=st.integers(2, 9).map(lambda n: 16 * n),
    overlap_share=st.floats(0, 1),
)
def test_tiles_cover_every_picture_with_the_overlap_asked_for(
    height: int, width: int, tile: int, overlap_share: float
) -> None:
    overlap = int(overlap_share * (tile // 2)) // 16 * 16
    plan = TilePlan(height, width, tile, overlap)
    for origins, size in ((plan.rows, height), (plan.columns, width)):
        assert origins[0] == 0
        assert size <= origins[-1] + tile < size + tile + 16
        assert all(origin % 16 == 0 for origin in origins)
        assert all(0 < b - a <= tile - overlap for a, b in pairwise(origins))
    picture = np.random.default_rng(0).random((1, height, width), dtype=np.float32)
    tiles, plan = tile_tensor(picture, tile, overlap)
    assert np.abs(stitch_tiles(tiles, plan) - picture).max() <= 1e-6


def test_numpy_and_torch_are_cut_and_blended_alike() -> None:
    picture = np.random.default_rng(0).random((1, 3, 300, 500), dtype=np.float32)

    def model(x):  # type: ignore[no-untyped-def]
        return 2 * x * x - x

    ours = apply_tiled(picture, model)
    theirs = apply_tiled(torch.from_numpy(picture), model, batch=4)
    assert isinstance(ours, np.ndarray)
    assert isinstance(theirs, torch.Tensor)
    assert np.abs(ours - theirs.numpy()).max() <= 1e-6


def test_stitching_stays_on_the_device_of_the_tiles() -> None:
    # The meta device stands for any that is not the CPU: mixing in a CPU tensor raises there.
    tiles = [torch.zeros(1, 3, 256, 256, device="meta") for _ in range(6)]
    stitched = stitch_tiles(tiles, TilePlan(400, 500))
    assert stitched.device.type == "meta"
    assert create_blend_weight(like=tiles[0]).device.type == "meta"


def test_batches_do_not_change_the_result() -> None:
    picture = torch.rand(1, 3, 500, 700, generator=torch.Generator().manual_seed(0))
    one = apply_tiled(picture, lambda x: x.sin(), batch=1)
    assert torch.equal(one, apply_tiled(picture, lambda x: x.sin(), batch=5))


def test_blend_weights_of_neighbours_add_up_to_one() -> None:
    weight = create_blend_weight(256, 64)
    assert weight.shape == (256, 256)
    assert weight.dtype == np.float32
    middle = weight[128]
    np.testing.assert_allclose(middle[192:] + middle[:64], 1.0, atol=1e-6)
    np.testing.assert_allclose(np.diff(middle[:64]), 1 / 64, atol=1e-6)


def test_a_constant_offset_of_one_tile_fades_without_a_step() -> None:
    plan = TilePlan(256, 448)
    tiles = [torch.zeros(1, 256, 256), torch.ones(1, 256, 256)]
    row = stitch_tiles(tiles, plan)[0, 100]
    assert row[0] == 0
    assert row[-1] == 1
    assert row.diff().abs().max() <= 1 / 64 + 1e-6


def largest_step_of_shares(plan: TilePlan) -> float:
    """By how much the result changes from a column to the next where tiles differ by one."""
    shares = np.zeros((len(plan), plan.width))
    for index in range(len(plan)):
        weight = plan.weight(index)[0]
        first = plan.columns[index]
        shares[index, first : first + len(weight)] = weight
    return float(np.abs(np.diff(shares, axis=1)).sum(axis=0).max(initial=0.0)) / 2


@pytest.mark.parametrize(("tile", "overlap"), [(64, 16), (64, 32), (256, 64), (256, 16)])
def test_a_pixel_shows_one_share_of_a_difference_where_neighbours_share_the_overlap(
    tile: int, overlap: int
) -> None:
    plan = TilePlan(1, 4 * (tile - overlap) + overlap, tile, overlap)
    assert len(plan) == 4
    assert largest_step_of_shares(plan) == pytest.approx(1 / overlap, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 700), tile=st.integers(2, 9).map(lambda n: 16 * n), data=st.data())
def test_a_pixel_shows_no_more_than_its_share_of_a_difference_at_any_width(
    width: int, tile: int, data: st.DataObject
) -> None:
    overlap = 16 * data.draw(st.integers(1, tile // 32))
    shared_by_three = 1.5 if overlap > tile * 3 / 8 else 1.0
    assert largest_step_of_shares(TilePlan(1, width, tile, overlap)) <= (
        shared_by_three / overlap + 1e-6
    )


@pytest.mark.parametrize(
    ("tile", "overlap", "what"), [(100, 0, "tile"), (256, 144, "overlap"), (256, 10, "overlap")]
)
def test_a_geometry_off_the_grid_is_refused(tile: int, overlap: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{what} must be"):
        TilePlan(500, 500, tile, overlap)
