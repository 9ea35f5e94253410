"""Crops are synchronised, and a pure function of (seed, epoch, index)."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deblur.data.crops import Crop, EpochBatches
from deblur.data.dataset import DeblurDataset
from deblur.errors import DataError
from deblur.images import read_rgb


def folder_of_twins(root: Path) -> Path:
    """Pairs whose two pictures are equal, every pixel different from its neighbours."""
    rng = np.random.default_rng(0)
    for kind in ("blur", "sharp"):
        (root / "train" / "scene" / kind).mkdir(parents=True)
    for number in range(3):
        picture = Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8))
        for kind in ("blur", "sharp"):
            picture.save(root / "train" / "scene" / kind / f"{number}.png")
    return root


def test_crop_flips_and_turns_are_the_same_for_both_pictures(tmp_path: Path) -> None:
    dataset = DeblurDataset(folder_of_twins(tmp_path), patch_size=48)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        for blurred, sharp in (dataset[index] for index in range(3)):
            assert torch.equal(blurred, sharp)


def test_every_turn_comes_up_and_none_is_anything_else(tmp_path: Path) -> None:
    # With crops as large as the picture, only the eight turns of the square are left.
    picture = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    for kind in ("blur", "sharp"):
        folder = tmp_path / "train" / "scene" / kind
        folder.mkdir(parents=True)
        Image.fromarray(picture).save(folder / "1.png")
    eight = [
        np.rot90(flipped, k).tobytes() for flipped in (picture, picture[:, ::-1]) for k in range(4)
    ]
    dataset = DeblurDataset(tmp_path, patch_size=32)
    seen = Counter(eight.index(dataset.crop(Crop(epoch, 0))[0].tobytes()) for epoch in range(400))
    assert sorted(seen) == list(range(8))
    assert min(seen.values()) > 25


def test_a_crop_is_a_function_of_seed_epoch_and_index(tiny_root: Path) -> None:
    def pixels(seed: int, crop: Crop) -> bytes:
        return DeblurDataset(tiny_root, patch_size=64, seed=seed).crop(crop)[0].tobytes()

    base = pixels(0, Crop(3, 1))
    assert base == pixels(0, Crop(3, 1))
    assert base not in {pixels(1, Crop(3, 1)), pixels(0, Crop(4, 1)), pixels(0, Crop(3, 2))}


def test_prepared_and_plain_data_give_the_same_crops(tiny_root: Path, tiny_data: Path) -> None:
    plain = DeblurDataset(tiny_root, patch_size=64, crops_per_image=3)
    prepared = DeblurDataset(tiny_data, patch_size=64, crops_per_image=3)
    assert len(plain) == len(prepared) == 12
    for index in range(len(plain)):
        for ours, theirs in zip(plain[index], prepared[index], strict=True):
            assert torch.equal(ours, theirs)


def test_crops_are_normalised_to_minus_one_to_one(tiny_data: Path) -> None:
    dataset = DeblurDataset(tiny_data, patch_size=64)
    blurred, sharp = dataset[0]
    assert blurred.shape == sharp.shape == (3, 64, 64)
    assert blurred.dtype == torch.float32
    pixels = dataset.crop(Crop(0, 0))[1]
    expected = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(sharp, expected)
    assert -1 <= sharp.min() < sharp.max() <= 1


def test_a_transform_receives_the_pil_crop(tiny_root: Path) -> None:
    dataset = DeblurDataset(tiny_root, transform=lambda image: image, patch_size=64)
    blurred, _ = dataset[1]
    assert isinstance(blurred, Image.Image)
    assert np.array_equal(np.asarray(blurred), dataset.crop(Crop(0, 1))[0])


def test_evaluation_takes_the_middle_of_the_test_pictures_unturned(tiny_root: Path) -> None:
    dataset = DeblurDataset(tiny_root, patch_size=64, is_training=False)
    whole = read_rgb(next((tiny_root / "test").rglob("sharp/*.png")))
    top, left = (whole.shape[0] - 64) // 2, (whole.shape[1] - 64) // 2
    assert np.array_equal(dataset.crop(Crop(9, 0))[1], whole[top : top + 64, left : left + 64])


def test_a_picture_smaller_than_the_crop_is_named(tiny_root: Path) -> None:
    with pytest.raises(
        DataError, match=r"discs-train/000001.png is \d+x\d+, smaller than the crop"
    ):
        DeblurDataset(tiny_root, patch_size=256)


def test_every_crop_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    batches = list(EpochBatches(10, 4, seed=0, epochs=range(2)))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    orders = [[crop.number for batch in batches[i : i + 3] for crop in batch] for i in (0, 3)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]


def test_a_stream_that_starts_later_continues_the_same_order() -> None:
    whole = list(EpochBatches(10, 4, seed=5, epochs=range(3)))
    assert list(EpochBatches(10, 4, seed=5, epochs=range(1, 3))) == whole[3:]


def test_spawned_workers_give_the_same_batches_as_none(tiny_data: Path) -> None:
    dataset = DeblurDataset(tiny_data, patch_size=64, crops_per_image=2)
    batches = EpochBatches(len(dataset), 4, seed=0, epochs=range(2))

    def load(workers: int) -> list[torch.Tensor]:
        context = "spawn" if workers else None
        loader = DataLoader(
            dataset, batch_sampler=batches, num_workers=workers, multiprocessing_context=context
        )
        return [torch.cat(batch) for batch in loader]

    alone, helped = load(0), load(2)
    assert len(alone) == len(helped) == 4
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
