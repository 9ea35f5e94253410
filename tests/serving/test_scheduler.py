"""The tiles of several pictures in turn."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest

from deblur.images import to_float, to_uint8
from deblur.serving.scheduler import Scheduler
from deblur.tiling import TilePlan, apply_tiled

TILE, OVERLAP = 64, 16


def darker(tile: np.ndarray) -> np.ndarray:
    """A network whose result depends on the whole tile, as one with group statistics."""
    return tile * np.float32(0.7) - np.float32(0.1) * tile.mean()


class Held:
    """A network that computes a tile only when told to, and notes whose tiles it computed."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def of(self, name: str):  # type: ignore[no-untyped-def]
        def run(tile: np.ndarray) -> np.ndarray:
            self.begun.append(name)
            self.started.release()
            assert self.go_on.acquire(timeout=30)
            return tile

        return run


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    one = Scheduler()
    yield one
    one.close(cancel=True)


def plan_of(pixels: np.ndarray) -> TilePlan:
    return TilePlan(pixels.shape[0], pixels.shape[1], TILE, OVERLAP)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (97, 131), (300, 170)])
def test_pixels_are_those_of_the_tiler_however_many_threads_and_pictures(
    photograph: np.ndarray, threads: int, size: tuple[int, int]
) -> None:
    pixels = np.ascontiguousarray(np.tile(photograph, (2, 2, 1))[: size[0], : size[1]])
    expected = to_uint8(apply_tiled(to_float(pixels), darker, TILE, OVERLAP))
    scheduler = Scheduler(threads)
    pictures = [scheduler.submit(pixels, plan_of(pixels), darker) for _ in range(4)]
    for picture in pictures:
        assert np.array_equal(picture.result.result(timeout=60), expected)
    scheduler.close()


def test_a_small_picture_does_not_wait_for_a_large_one(scheduler: Scheduler) -> None:
    held = Held()
    large, small = np.zeros((640, 640, 3), np.uint8), np.zeros((64, 100, 3), np.uint8)
    first = scheduler.submit(large, plan_of(large), held.of("large"))
    assert held.started.acquire(timeout=30)
    second = scheduler.submit(small, plan_of(small), held.of("small"))
    assert (first.total, second.total) == (169, 2)
    for _ in range(5):
        held.go_on.release()
    assert second.result.result(timeout=30).shape == small.shape
    assert held.begun[:5] == ["large", "large", "small", "large", "small"]
    assert not first.result.done()
    first.cancel()
    held.go_on.release()


def test_a_cancelled_picture_frees_its_tiles_at_once(scheduler: Scheduler) -> None:
    held = Held()
    pixels = np.zeros((640, 640, 3), np.uint8)
    picture = scheduler.submit(pixels, plan_of(pixels), held.of("left"))
    assert held.started.acquire(timeout=30)
    picture.cancel()
    held.go_on.release()
    after = scheduler.submit(pixels[:64, :64], TilePlan(64, 64, TILE, OVERLAP), held.of("next"))
    held.go_on.release()
    assert after.result.result(timeout=30) is not None
    assert held.begun == ["left", "next"]
    assert scheduler.tiles_left == 0
    with pytest.raises(CancelledError):
        picture.result.result()


def test_a_tile_that_fails_fails_its_picture_and_no_other(scheduler: Scheduler) -> None:
    def fails(tile: np.ndarray) -> np.ndarray:
        raise MemoryError("no room")

    pixels = np.full((200, 200, 3), 90, np.uint8)
    bad = scheduler.submit(pixels, plan_of(pixels), fails)
    good = scheduler.submit(pixels, plan_of(pixels), lambda tile: tile)
    with pytest.raises(MemoryError, match="no room"):
        bad.result.result(timeout=30)
    assert np.array_equal(good.result.result(timeout=30), pixels)


def test_every_tile_is_reported_in_order(scheduler: Scheduler) -> None:
    pixels = np.zeros((150, 150, 3), np.uint8)
    said: list[tuple[int, int]] = []
    work = scheduler.submit(
        pixels, plan_of(pixels), darker, lambda done, total: said.append((done, total))
    )
    work.result.result(timeout=30)
    assert said == [(n, 9) for n in range(1, 10)]


def test_closing_finishes_what_there_is_and_takes_nothing_more() -> None:
    scheduler = Scheduler(2)
    pixels = np.full((300, 300, 3), 7, np.uint8)
    work = scheduler.submit(pixels, plan_of(pixels), lambda tile: tile)
    scheduler.close()
    assert np.array_equal(work.result.result(timeout=0), pixels)
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit(pixels, plan_of(pixels), darker)


def test_the_time_of_a_tile_is_measured(scheduler: Scheduler) -> None:
    assert scheduler.tile_seconds == 0
    pixels = np.zeros((64, 64, 3), np.uint8)
    scheduler.submit(pixels, plan_of(pixels), darker).result.result(timeout=30)
    # Told after the tile is: the thread may not have come to it yet.
    scheduler.close()
    assert 0 < scheduler.tile_seconds < 5
