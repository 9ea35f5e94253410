"""Planted faults of tiling are found, and sound tiling is not blamed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblur.data.pairs import open_pairs
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, lettering, masonry
from deblur.errors import ConfigError
from deblur.evaluation import Predict
from deblur.gates.check import Check
from deblur.gates.seams import ROUNDED_TILES, PairPixels, SeamBounds, check_seams
from deblur.models.unet import DeblurUNet
from deblur.tiling import TilePlan, apply_tiled

OnTiles = Callable[[Tensor], Tensor]

TILE, OVERLAP = 128, 32


@pytest.fixture(scope="module")
def pictures() -> list[PairPixels]:
    """Drawn scenes of three tiles by two, blurred by a shaking camera."""
    made = []
    for number, draw in enumerate((discs, masonry, lettering, masonry)):
        scene = draw(generator(11, Stream.SCENE, number)).resize((352, 260))
        path = random_camera_path(generator(11, Stream.BLUR, number), 8.0, 0.2)
        blurred, sharp = motion_blur(np.asarray(scene), path)
        made.append((np.rint(blurred.clip(0, 255)).astype(np.uint8), sharp.astype(np.uint8)))
    return made


def tiled(on_tiles: OnTiles, tile: int = TILE, overlap: int = OVERLAP) -> Predict:
    @torch.inference_mode()
    def predict(planes: np.ndarray) -> np.ndarray:
        return apply_tiled(torch.from_numpy(planes), on_tiles, tile, overlap).numpy()

    return predict


def brightened_by_tile(levels: float) -> OnTiles:
    """Each tile becomes brighter or darker by up to ``levels``, depending on all its pixels."""

    def on_tiles(tiles: Tensor) -> Tensor:
        mean = tiles.mean(dim=(1, 2, 3), keepdim=True)
        return tiles + levels / 127.5 * torch.sin(1000 * mean)

    return on_tiles


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Not trained, and so small a correction that it is one of a trained network's size."""
    torch.manual_seed(0)
    net = DeblurUNet(base_ch=8).eval()
    nn.init.normal_(net.final.weight, std=1e-3)
    return net


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def value(checks: Sequence[Check], name: str) -> float:
    return next(check.value for check in checks if check.name == name)


def test_the_identity_has_no_seams(pictures: list[PairPixels]) -> None:
    checks = check_seams(tiled(lambda tiles: tiles), TILE, OVERLAP, pictures)
    assert [check.name for check in checks] == [
        "flat_step", "flat_ripple", "sky_step", "sky_shading", "seam_shading", "seam_energy",
    ]  # fmt: skip
    for check in checks[:5]:
        assert check.value < 1e-4
    assert value(checks, "seam_energy") == pytest.approx(1.0, abs=1e-4)


def test_a_network_whose_result_depends_on_the_tile_passes_when_it_is_feathered(
    network: nn.Module, pictures: list[PairPixels]
) -> None:
    checks = check_seams(tiled(network), TILE, OVERLAP, pictures)
    assert failed(checks) == set()
    assert 0 < value(checks, "flat_step") < 0.25, "half the bound"
    assert 0 < value(checks, "sky_step") < 0.25
    assert 0 < value(checks, "sky_shading") < 1.0


def test_the_same_network_without_feathering_fails(
    network: nn.Module, pictures: list[PairPixels]
) -> None:
    checks = check_seams(tiled(network, overlap=0), TILE, 0, pictures)
    assert {"flat_step", "sky_step"} <= failed(checks)
    assert value(checks, "sky_step") > 1.0, "twice the bound"


def test_tiles_that_are_rounded_before_blending_have_bounds_of_their_own() -> None:
    def shaded(tiles: Tensor) -> Tensor:
        return tiles + torch.linspace(0, 0.9, tiles.shape[-1]) / 127.5

    def rounded(tiles: Tensor) -> Tensor:
        return ((shaded(tiles) + 1) * 127.5).round() / 127.5 - 1

    assert "flat_step" not in failed(check_seams(tiled(shaded), TILE, OVERLAP, []))
    assert "flat_step" in failed(check_seams(tiled(rounded), TILE, OVERLAP, []))
    checks = check_seams(tiled(rounded), TILE, OVERLAP, [], bounds=ROUNDED_TILES)
    assert failed(checks) == set()
    assert value(checks, "flat_step") == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_a_trained_network_passes_feathered(tiny_run: Path, pictures: list[PairPixels]) -> None:
    from deblur.training.checkpoint import load_checkpoint

    net = load_checkpoint(tiny_run / "best.pt").network()
    assert failed(check_seams(tiled(net), TILE, OVERLAP, pictures)) == set()


def test_tiles_of_different_brightness_show_without_feathering(pictures: list[PairPixels]) -> None:
    checks = check_seams(tiled(brightened_by_tile(5), overlap=0), TILE, 0, pictures)
    assert {"sky_step", "sky_shading", "seam_shading", "seam_energy"} <= failed(checks)
    assert value(checks, "sky_step") > 2.5, "five times the bound"
    assert value(checks, "seam_energy") > 2.0


def test_feathering_hides_the_step_between_tiles_of_different_brightness_but_not_the_shading(
    pictures: list[PairPixels],
) -> None:
    assert failed(check_seams(tiled(brightened_by_tile(1)), TILE, OVERLAP, pictures)) == set()
    checks = check_seams(tiled(brightened_by_tile(5)), TILE, OVERLAP, pictures)
    assert failed(checks) == {"sky_shading", "seam_shading"}
    # What the ramp leaves of a difference is one share of it a pixel.
    assert value(checks, "sky_step") == pytest.approx(
        value(checks, "sky_shading") / OVERLAP, rel=0.05
    )


def test_weights_that_belong_to_the_next_tile_are_found(pictures: list[PairPixels]) -> None:
    def predict(planes: np.ndarray) -> np.ndarray:
        plan = TilePlan(planes.shape[2], planes.shape[3], TILE, OVERLAP)
        out = np.zeros_like(planes)
        for index in range(len(plan)):
            row, column = plan.origin(index)
            weight = plan.weight((index + 1) % len(plan))
            target = out[..., row : row + weight.shape[0], column : column + weight.shape[1]]
            weight = weight[: target.shape[2], : target.shape[3]]
            target += plan.cut(planes, index)[..., : weight.shape[0], : weight.shape[1]] * weight
        return out

    checks = check_seams(predict, TILE, OVERLAP, pictures)
    assert {"flat_step", "flat_ripple", "sky_step", "seam_energy"} <= failed(checks)
    assert value(checks, "flat_step") > 10


def test_tiles_with_a_rim_of_zeros_are_found(pictures: list[PairPixels]) -> None:
    def rimmed(tiles: Tensor) -> Tensor:
        return F.pad(tiles[..., 8:-8, 8:-8], (8, 8, 8, 8))

    checks = check_seams(tiled(rimmed), TILE, OVERLAP, pictures)
    assert {"flat_step", "flat_ripple", "sky_step"} <= failed(checks)
    assert value(checks, "flat_step") > 10


def test_a_picture_continued_with_zeros_instead_of_mirrored_is_found() -> None:
    def predict(planes: np.ndarray) -> np.ndarray:
        height, width = planes.shape[2:]
        plan = TilePlan(height, width, TILE, OVERLAP)
        whole = np.zeros((1, 3, plan.rows[-1] + TILE, plan.columns[-1] + TILE), np.float32)
        whole[..., :height, :width] = planes
        return tiled(softened)(whole)[..., :height, :width]

    def softened(tiles: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(tiles, (2, 2, 2, 2), mode="replicate"), 5, stride=1)

    assert failed(check_seams(tiled(softened), TILE, OVERLAP, [])) == set()
    assert {"flat_step", "flat_ripple"} <= failed(check_seams(predict, TILE, OVERLAP, []))


def test_a_result_that_is_not_a_number_passes_nothing(pictures: list[PairPixels]) -> None:
    checks = check_seams(lambda planes: np.full_like(planes, np.nan), 64, 16, pictures[:1])
    assert failed(checks) == {check.name for check in checks}


def test_pictures_of_any_size_are_fitted_to_the_tiles(detail: np.ndarray) -> None:
    dot = np.full((1, 1, 3), 90, np.uint8)
    checks = check_seams(lambda planes: planes, 64, 16, [(detail, detail), (dot, dot)])
    assert failed(checks) == set()


def test_without_pictures_only_drawn_ones_are_judged() -> None:
    checks = check_seams(lambda planes: planes, 64, 16, [])
    assert [c.name for c in checks] == ["flat_step", "flat_ripple", "sky_step", "sky_shading"]


def test_tiles_too_small_to_lay_across_a_border_are_refused() -> None:
    with pytest.raises(ConfigError, match="tiles of 48 pixels cannot be measured: expected 64"):
        check_seams(lambda planes: planes, 48, 16, [])


def test_bounds_can_be_set(tiny_root: Path) -> None:
    pairs = open_pairs(tiny_root, "test")
    bounds = SeamBounds(seam_shading=0.5, sky_shading=5.0)
    checks = check_seams(
        tiled(brightened_by_tile(2), 64, 16), 64, 16, [pairs.read(0)], bounds=bounds
    )
    assert failed(checks) == {"seam_shading"}


@pytest.mark.parametrize("overlap", [0, 16, 32])
def test_every_overlap_of_a_tile_can_be_measured(overlap: int, detail: np.ndarray) -> None:
    for tile in (64, 80, 96):
        checks = check_seams(lambda planes: planes, tile, overlap, [(detail, detail)])
        assert failed(checks) == set()
