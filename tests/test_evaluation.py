"""Scoring whole pictures, side by side with predicting them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from deblur import evaluation
from deblur.data.pairs import Box
from deblur.errors import DataError
from deblur.evaluation import Scores, evaluate, interleaved
from deblur.images import to_float, to_uint8
from deblur.metrics import psnr, ssim, ssim_matlab3d
from deblur.progress import Advance


class Drawn:
    """``count`` pairs in memory, of two scenes in turns: ``sharp`` shifted, each blurred more.

    Attributes:
        broken: which pair cannot be read.
        read_by: the thread of each reading.
    """

    def __init__(self, sharp: np.ndarray, count: int, broken: int | None = None) -> None:
        self.sharp = sharp
        self.broken = broken
        self.scenes = [f"scene{number % 2}" for number in range(count)]
        self.names = [f"{number:06d}" for number in range(count)]
        self.read_by: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        return self.sharp.shape[0], self.sharp.shape[1]

    def read(self, index: int, box: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
        self.read_by.append(threading.current_thread().name)
        if index == self.broken:
            raise DataError(f"pair {index} is damaged")
        sharp = np.roll(self.sharp, 5 * index, axis=1)
        blurred = (sharp.astype(np.uint16) + np.roll(sharp, 1 + index, axis=0)) // 2
        return blurred.astype(np.uint8), sharp


def darker(planes: np.ndarray) -> np.ndarray:
    return planes * np.float32(0.9)


def one_after_the_other(pairs: Drawn, loss_eps: float = 1e-3) -> list[tuple]:
    """What the scores have to be, to the bit, by the definitions."""
    rows = []
    for index in range(len(pairs)):
        blurred, sharp = pairs.read(index)
        planes = darker(to_float(blurred))
        error = planes.astype(np.float64) - to_float(sharp)
        result = to_uint8(planes)
        rows.append(
            (
                pairs.scenes[index], pairs.names[index], psnr(blurred, sharp), ssim(blurred, sharp),
                psnr(result, sharp), ssim(result, sharp),
                float(np.sqrt(error**2 + loss_eps**2).mean()),
            )
        )  # fmt: skip
    return rows


def rows_of(scores: Scores) -> list[tuple]:
    return [
        (p.scene, p.name, p.blurred.psnr, p.blurred.ssim, p.result.psnr, p.result.ssim, p.loss)
        for p in scores.pictures
    ]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("count", [0, 1, 2, 3, 25])
@pytest.mark.parametrize("threads", [1, 4])
def test_scores_are_those_of_the_pictures_one_after_the_other_to_the_bit(
    detail: np.ndarray, count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deblur.cpus.usable_cpus", lambda: threads)
    pairs = Drawn(detail, count)
    assert rows_of(evaluate(darker, pairs)) == one_after_the_other(pairs)
    assert rows_of(evaluate(darker, pairs, loss_eps=0.1)) == one_after_the_other(pairs, 0.1)


def test_the_order_is_that_of_the_pictures_even_if_the_first_is_scored_last(
    detail: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, score, last_began = Drawn(detail, 5), evaluation._score, threading.Event()

    def slow_at_first(picture: evaluation._Picture, *rest: object) -> evaluation.PictureScore:
        if picture.name == "000000":
            assert last_began.wait(20)
        elif picture.name == "000004":
            last_began.set()
        return score(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("deblur.cpus.usable_cpus", lambda: 2)
    monkeypatch.setattr(evaluation, "_score", slow_at_first)
    assert [p.name for p in evaluate(darker, pairs).pictures] == pairs.names


def test_figures_of_a_set_are_means_over_its_pictures(detail: np.ndarray) -> None:
    pairs = Drawn(detail, 4)
    scores, rows = evaluate(darker, pairs), one_after_the_other(pairs)
    means = np.mean([row[2:] for row in rows], axis=0)
    assert scores.blurred_psnr == pytest.approx(means[0], abs=1e-12)
    assert scores.psnr == pytest.approx(means[2], abs=1e-12)
    assert scores.loss == pytest.approx(means[4], abs=1e-12)
    assert scores.gain == pytest.approx(means[2] - means[0], abs=1e-12)
    assert {s: len(part.pictures) for s, part in scores.by_scene().items()} == {
        "scene0": 2,
        "scene1": 2,
    }
    assert scores.metrics("val") == {
        "val_psnr": scores.psnr, "val_ssim": scores.ssim,
        "val_blurred_psnr": scores.blurred_psnr, "val_blurred_ssim": scores.blurred_ssim,
    }  # fmt: skip


def test_the_volume_ssim_is_taken_only_where_it_is_asked_for(detail: np.ndarray) -> None:
    pairs = Drawn(detail, 3)
    assert evaluate(darker, pairs).ssim_matlab3d is None
    scores = evaluate(darker, pairs, matlab3d=True)
    expected = [
        ssim_matlab3d(to_uint8(darker(to_float(blurred))), sharp)
        for blurred, sharp in map(pairs.read, range(3))
    ]
    assert [p.result.ssim_matlab3d for p in scores.pictures] == expected
    assert scores.metrics("test")["test_ssim_matlab3d"] == pytest.approx(np.mean(expected))
    assert scores.metrics("test")["test_blurred_ssim_matlab3d"] == scores.blurred_ssim_matlab3d
    assert rows_of(scores) == one_after_the_other(pairs)


def test_only_the_pictures_asked_for_are_read_and_scored_in_their_order(detail: np.ndarray) -> None:
    pairs = Drawn(detail, 9)
    scores = evaluate(darker, pairs, indices=[7, 2, 5])
    expected = one_after_the_other(pairs)
    pairs.read_by.clear()
    assert rows_of(scores) == [expected[7], expected[2], expected[5]]
    assert rows_of(evaluate(darker, pairs, indices=[])) == [] and pairs.read_by == []


@pytest.mark.parametrize("world", [1, 2, 3, 4, 9])
def test_shares_of_several_processes_make_the_scores_of_one(detail: np.ndarray, world: int) -> None:
    pairs = Drawn(detail, 7)
    shares = [
        evaluate(darker, pairs, indices=range(rank, len(pairs), world)) for rank in range(world)
    ]
    whole = evaluate(darker, pairs)
    assert interleaved(shares) == whole
    assert interleaved(shares).psnr == whole.psnr


def test_shares_that_cannot_be_of_one_set_are_refused(detail: np.ndarray) -> None:
    first, second = (evaluate(darker, Drawn(detail, 3), indices=part) for part in ([0, 2], [1]))
    with pytest.raises(ValueError, match=r"3 pictures are shared as \[2, 1\], got shares of \[1,"):
        interleaved([second, first])
    assert interleaved([]) == Scores(())


def test_predicting_and_what_comes_between_happen_in_the_calling_thread(detail: np.ndarray) -> None:
    pairs, calls, here = Drawn(detail, 4), [], threading.current_thread()

    def predict(planes: np.ndarray) -> np.ndarray:
        calls.append(("predict", threading.current_thread()))
        assert planes.shape == (1, 3, 40, 56) and planes.dtype == np.float32
        return planes

    evaluate(predict, pairs, between=lambda: calls.append(("between", threading.current_thread())))
    assert calls == [("between", here), ("predict", here)] * 4
    assert here.name not in pairs.read_by


def test_pictures_are_scored_while_the_next_is_predicted(
    detail: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, scored = evaluation._score, threading.Event()

    def telling(*args: object) -> evaluation.PictureScore:
        scored.set()
        return score(*args)  # type: ignore[arg-type]

    def predict(planes: np.ndarray) -> np.ndarray:
        if predicted:  # the second waits for the score of the first
            assert scored.wait(20)
        predicted.append(1)
        return planes

    predicted: list[int] = []
    monkeypatch.setattr(evaluation, "_score", telling)
    evaluate(predict, Drawn(detail, 2))
    assert len(predicted) == 2


def test_pictures_are_read_while_one_is_predicted(detail: np.ndarray) -> None:
    pairs = Drawn(detail, 3)

    def predict(planes: np.ndarray) -> np.ndarray:
        deadline = time.monotonic() + 20
        while len(pairs.read_by) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        read.append(len(pairs.read_by))
        return planes

    read: list[int] = []
    evaluate(predict, pairs)
    assert read[0] == 3


def test_only_a_few_pictures_are_in_memory_however_long_the_set_is(
    detail: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, score, most = Drawn(detail, 60), evaluation._score, []
    lock, scored = threading.Lock(), [0]

    def slowly(*args: object) -> evaluation.PictureScore:
        time.sleep(0.01)
        with lock:
            most.append(len(pairs.read_by) - scored[0])
            scored[0] += 1
        return score(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("deblur.cpus.usable_cpus", lambda: 4)
    monkeypatch.setattr(evaluation, "_score", slowly)
    assert len(evaluate(darker, pairs).pictures) == 60
    assert max(most) <= evaluation._BEING_SCORED + evaluation._READ_AHEAD + 1


class StoppedError(Exception):
    """What a caller raises to end an evaluation."""


def test_what_comes_between_may_end_the_evaluation_at_once(detail: np.ndarray) -> None:
    predicted = []

    def predict(planes: np.ndarray) -> np.ndarray:
        predicted.append(1)
        return planes

    def between() -> None:
        if len(predicted) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        evaluate(predict, Drawn(detail, 50), between=between)
    assert len(predicted) == 3


def test_an_error_in_reading_comes_out_as_itself(detail: np.ndarray) -> None:
    pairs, predicted = Drawn(detail, 50, broken=6), []

    def predict(planes: np.ndarray) -> np.ndarray:
        predicted.append(1)
        return planes

    with pytest.raises(DataError, match="pair 6 is damaged"):
        evaluate(predict, pairs)
    assert 4 <= len(predicted) <= 6
    assert len(pairs.read_by) <= 6 + evaluation._READ_AHEAD + 1


def test_an_error_in_predicting_comes_out_as_itself(detail: np.ndarray) -> None:
    def predict(planes: np.ndarray) -> np.ndarray:
        raise MemoryError("the picture is too large")

    with pytest.raises(MemoryError, match="too large"):
        evaluate(predict, Drawn(detail, 50))


@pytest.mark.parametrize("bad", [0, 4, 49])
def test_an_error_in_scoring_comes_out_as_itself_before_many_more_are_predicted(
    detail: np.ndarray, bad: int
) -> None:
    predicted = []

    def predict(planes: np.ndarray) -> np.ndarray:
        predicted.append(1)
        time.sleep(0.05 if len(predicted) > bad + 1 else 0)  # until it was scored
        return planes[..., 1:] if len(predicted) == bad + 1 else planes  # of another size

    with pytest.raises(ValueError, match="broadcast"):
        evaluate(predict, Drawn(detail, 50))
    assert len(predicted) <= min(bad + 1 + evaluation._BEING_SCORED, 50)


def test_an_error_does_not_wait_for_a_picture_before_it(
    detail: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, failed, predicted = evaluation._score, threading.Event(), []

    def scoring(picture: evaluation._Picture, *rest: object) -> evaluation.PictureScore:
        if picture.name == "000001":
            failed.set()
            raise StoppedError
        if picture.name == "000000":
            time.sleep(0.5)
        return score(picture, *rest)  # type: ignore[arg-type]

    def predict(planes: np.ndarray) -> np.ndarray:
        predicted.append(1)
        if len(predicted) == 3:
            assert failed.wait(20)
        return planes

    monkeypatch.setattr("deblur.cpus.usable_cpus", lambda: 4)
    monkeypatch.setattr(evaluation, "_score", scoring)
    with pytest.raises(StoppedError):
        evaluate(predict, Drawn(detail, 50))
    assert len(predicted) <= 4


def test_progress_counts_the_pictures_scored_in_the_calling_thread(detail: np.ndarray) -> None:
    said: list[object] = []

    class Listening:
        @contextmanager
        def task(self, name: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
            said.append((name, total, unit))

            def advance(steps: int = 1, note: str = "") -> None:
                said.append((steps, threading.current_thread()))

            yield advance

    evaluate(darker, Drawn(detail, 20), Listening(), name="validation", indices=range(1, 20, 3))
    assert said == [("validation", 7, "pictures")] + [(1, threading.current_thread())] * 7
