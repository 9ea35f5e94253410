"""What training is fed: the same crops on every path, for any number of processes."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deblur.data.crops import Crop, EpochBatches, Turn, random_place, turned
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropBatch, CropFeed, as_it_is, feed, to_device
from deblur.errors import PictureError

CPU = torch.device("cpu")
SIZE = 48


def batches_of(data: Path, workers: int, rank: int = 0, world_size: int = 1) -> list[CropBatch]:
    """Three epochs, from the second on, in batches of 3."""
    dataset = DeblurDataset(data, patch_size=SIZE, seed=5, crops_per_image=2)
    order = EpochBatches(len(dataset), 3, 5, range(1, 4), rank, world_size)
    return list(feed(CropFeed(dataset), order, workers, CPU))


@pytest.fixture(scope="module")
def expected(tiny_data: Path) -> list[CropBatch]:
    return batches_of(tiny_data, 0)


def equal(some: list[CropBatch], others: list[CropBatch]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a.pixels, b.pixels) and torch.equal(a.turns, b.turns)
        for a, b in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("prepared", [True, False])
def test_workers_do_not_change_the_crops(
    tiny_root: Path, tiny_data: Path, expected: list[CropBatch], workers: int, prepared: bool
) -> None:
    assert equal(batches_of(tiny_data if prepared else tiny_root, workers), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [2, 4])
def test_processes_that_are_spawned_do_not_change_the_crops(
    tiny_data: Path, expected: list[CropBatch], workers: int
) -> None:
    dataset = DeblurDataset(tiny_data, patch_size=SIZE, seed=5, crops_per_image=2)
    loader = DataLoader(
        CropFeed(dataset),
        batch_sampler=EpochBatches(len(dataset), 3, 5, range(1, 4)),
        num_workers=workers,
        collate_fn=as_it_is,
        multiprocessing_context="spawn",
    )
    assert equal(list(loader), expected)


def test_an_error_while_reading_ahead_reaches_the_reader(tiny_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_root, tmp_path / "pairs")
    dataset = DeblurDataset(root, patch_size=SIZE)
    (root / "train" / "masonry-train" / "blur" / "000002.png").write_bytes(b"damaged")
    with pytest.raises(PictureError, match="000002"):
        list(feed(CropFeed(dataset), EpochBatches(len(dataset), 1, 0, range(1)), 2, CPU))


def test_a_reader_that_stops_early_leaves_no_threads(tiny_data: Path) -> None:
    dataset = DeblurDataset(tiny_data, patch_size=SIZE)
    batches = feed(CropFeed(dataset), EpochBatches(len(dataset), 2, 0, range(100)), 3, CPU)
    next(batches)
    del batches
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("feed") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_together_see_the_batches_of_one(
    tiny_data: Path, expected: list[CropBatch], workers: int
) -> None:
    ranks = [batches_of(tiny_data, workers, rank, 2) for rank in (0, 1)]
    for whole, *parts in zip(expected, *ranks, strict=True):
        for rank, part in enumerate(parts):
            assert torch.equal(part.pixels, whole.pixels[:, rank::2])
            assert torch.equal(part.turns, whole.turns[rank::2])


def test_pictures_and_shards_feed_the_same_batches(
    tiny_root: Path, expected: list[CropBatch]
) -> None:
    assert equal(batches_of(tiny_root, 0), expected)


def test_another_epoch_brings_other_crops(expected: list[CropBatch]) -> None:
    per_epoch = len(expected) // 3
    assert not torch.equal(expected[0].pixels, expected[per_epoch].pixels)


@pytest.mark.parametrize("prepared", [True, False])
def test_the_device_makes_what_the_dataset_returns(
    tiny_root: Path, tiny_data: Path, prepared: bool
) -> None:
    data = tiny_data if prepared else tiny_root
    dataset = DeblurDataset(data, patch_size=SIZE, seed=3, crops_per_image=8)
    crops = [Crop(2, number) for number in range(len(dataset))]
    batch = CropFeed(dataset).__getitems__(crops)
    assert batch.pixels.dtype == torch.uint8
    assert len({tuple(turn) for turn in batch.turns.tolist()}) > 4, "few turns are tried"
    blurred, sharp = to_device(batch, CPU)
    assert blurred.is_contiguous(memory_format=torch.channels_last)
    for slot, crop in enumerate(crops):
        one_blurred, one_sharp = dataset[crop]
        assert torch.equal(blurred[slot], one_blurred)
        assert torch.equal(sharp[slot], one_sharp)


def test_an_empty_share_of_a_batch_is_an_empty_batch(tiny_data: Path) -> None:
    dataset = DeblurDataset(tiny_data, patch_size=SIZE)
    order = EpochBatches(1, 2, 0, range(1), rank=1, world_size=2)
    (batch,) = feed(CropFeed(dataset), order, 0, CPU)
    blurred, _ = to_device(batch, CPU)
    assert blurred.shape == (0, 3, SIZE, SIZE)


def test_every_turn_is_a_flip_and_a_rotation_as_drawn() -> None:
    square = np.arange(4 * 4 * 3).reshape(4, 4, 3)

    def drawn(h_flip: bool, v_flip: bool, quarter_turns: int) -> np.ndarray:
        flipped = square[:, ::-1] if h_flip else square
        flipped = flipped[::-1] if v_flip else flipped
        return np.rot90(flipped, quarter_turns)

    eight = {turned(square, Turn(*flags)).tobytes() for flags in all_flags()}
    assert len(eight) == 8
    assert {drawn(*draw).tobytes() for draw in all_draws()} == eight
    # The very draws of random_place, taken apart again.
    from deblur.data.randomness import Stream, generator

    for number in range(64):
        box, turn = random_place(1, Crop(0, number), 40, 50, 16)
        rng = generator(1, Stream.CROP, 0, number)
        top, left = rng.integers(40 - 16 + 1), rng.integers(50 - 16 + 1)
        h_flip, v_flip = rng.random(2) < 0.5
        assert box == (slice(top, top + 16), slice(left, left + 16))
        np.testing.assert_array_equal(
            turned(square, turn), drawn(h_flip, v_flip, int(rng.integers(4)))
        )


def all_flags() -> Iterator[tuple[bool, bool, bool]]:
    for number in range(8):
        yield bool(number & 1), bool(number & 2), bool(number & 4)


def all_draws() -> Iterator[tuple[bool, bool, int]]:
    for number in range(16):
        yield bool(number & 1), bool(number & 2), number >> 2
