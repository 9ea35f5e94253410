"""Evaluation on whole pictures, through the serving tiler, beside the blurred input.

Scoring a picture costs a CPU several times what predicting it costs a GPU. So pictures are read
ahead and scored in threads, and the thread that predicts does nothing else.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import NamedTuple

import numpy as np

from deblur.cpus import worker_threads
from deblur.data.pairs import Pairs
from deblur.images import to_float, to_uint8
from deblur.metrics import Quality, quality
from deblur.progress import SILENT, Progress

#: Maps one picture ``[1, 3, H, W]`` float32 in [-1, 1] to the same shape; tiles it inside.
Predict = Callable[[np.ndarray], np.ndarray]

_READ_AHEAD = 2
#: Pictures that are scored or wait for it. One that is being scored takes some 100 bytes a pixel.
_BEING_SCORED = 8


@dataclass(frozen=True)
class PictureScore:
    """One picture before and after."""

    scene: str
    name: str
    blurred: Quality
    result: Quality
    loss: float

    @property
    def gain(self) -> float:
        """PSNR above the blurred input's, in dB."""
        return self.result.psnr - self.blurred.psnr


@dataclass(frozen=True)
class Scores:
    """The scores of a set. Its figures are means over its pictures, PSNR in dB."""

    pictures: tuple[PictureScore, ...]

    @property
    def psnr(self) -> float:
        return _mean([p.result.psnr for p in self.pictures])

    @property
    def ssim(self) -> float:
        return _mean([p.result.ssim for p in self.pictures])

    @property
    def blurred_psnr(self) -> float:
        return _mean([p.blurred.psnr for p in self.pictures])

    @property
    def blurred_ssim(self) -> float:
        return _mean([p.blurred.ssim for p in self.pictures])

    @property
    def ssim_matlab3d(self) -> float | None:
        """``None`` where it was not asked for."""
        return _mean_if_taken([p.result.ssim_matlab3d for p in self.pictures])

    @property
    def blurred_ssim_matlab3d(self) -> float | None:
        return _mean_if_taken([p.blurred.ssim_matlab3d for p in self.pictures])

    @property
    def loss(self) -> float:
        return _mean([p.loss for p in self.pictures])

    @property
    def gain(self) -> float:
        """PSNR above the blurred input's, in dB."""
        return self.psnr - self.blurred_psnr

    def by_scene(self) -> dict[str, "Scores"]:
        """The same scores, apart for each scene."""
        scenes = sorted({p.scene for p in self.pictures})
        return {s: Scores(tuple(p for p in self.pictures if p.scene == s)) for s in scenes}

    def metrics(self, split: str) -> dict[str, float]:
        """The figures under the names that MLflow and the ONNX file carry."""
        figures = {
            f"{split}_psnr": self.psnr,
            f"{split}_ssim": self.ssim,
            f"{split}_blurred_psnr": self.blurred_psnr,
            f"{split}_blurred_ssim": self.blurred_ssim,
        }
        if self.ssim_matlab3d is not None and self.blurred_ssim_matlab3d is not None:
            figures[f"{split}_ssim_matlab3d"] = self.ssim_matlab3d
            figures[f"{split}_blurred_ssim_matlab3d"] = self.blurred_ssim_matlab3d
        return figures


def evaluate(
    predict: Predict,
    pairs: Pairs,
    progress: Progress = SILENT,
    loss_eps: float = 1e-3,
    name: str = "evaluate",
    indices: Sequence[int] | None = None,
    between: Callable[[], None] = lambda: None,
    matlab3d: bool = False,
) -> Scores:
    """Score pictures of ``pairs``.

    ``predict`` and ``between`` are called in this thread, one picture after the other; reading and
    scoring happen beside them. At most about ten pictures are in memory. The first error of any
    part ends the evaluation before the next picture is predicted.

    Args:
        predict: the model with its tiling.
        pairs: blurred and sharp pictures. Read by several threads at once.
        progress: shows the pictures done.
        loss_eps: eps of the Charbonnier loss that is reported beside the metrics.
        name: what the progress calls it.
        indices: which pictures, in this order; all if it is ``None``. Processes that share the work
            take ``range(rank, len(pairs), world)`` each, see ``interleaved``.
        between: called before each picture is predicted. What it raises ends the evaluation.
        matlab3d: whether to take ``ssim_matlab3d`` as well: for reports, as it takes nearly as long
            as the rest of a score.

    Returns:
        The scores in the order of the pictures, equal to the bit however many threads there are.

    Raises:
        DataError: a picture cannot be read.
    """
    chosen = range(len(pairs)) if indices is None else indices
    scores: list[PictureScore] = []
    reading: deque[Future[_Picture]] = deque()
    scoring: deque[Future[PictureScore]] = deque()
    with progress.task(name, len(chosen), "pictures") as advance, worker_threads() as pool:

        def collect(at_most: int) -> None:
            futures: list[Future] = [*reading, *scoring]
            for future in futures:
                if future.done():
                    future.result()  # raises its error without waiting for the pictures before it
            while scoring and (len(scoring) > at_most or scoring[0].done()):
                scores.append(scoring.popleft().result())
                advance(1)

        waiting = iter(chosen)
        reading.extend(pool.submit(_read, pairs, index) for index in islice(waiting, _READ_AHEAD))
        while reading:
            between()
            picture = reading.popleft().result()
            reading.extend(pool.submit(_read, pairs, index) for index in islice(waiting, 1))
            planes = predict(picture.planes)
            scoring.append(pool.submit(_score, picture, planes, loss_eps, matlab3d))
            collect(_BEING_SCORED)
        collect(0)
    return Scores(tuple(scores))


def interleaved(shares: Sequence[Scores]) -> Scores:
    """The scores of a whole set from those of the processes that shared it, in their order.

    Args:
        shares: of process ``rank`` of ``n`` the scores of pictures ``rank``, ``rank + n``,
            ``rank + 2 n`` ...

    Raises:
        ValueError: the shares have not the lengths that such shares have.
    """
    pictures = sum(len(share.pictures) for share in shares)
    lengths = [len(share.pictures) for share in shares]
    expected = [len(range(rank, pictures, len(shares))) for rank in range(len(shares))]
    if lengths != expected:
        raise ValueError(f"{pictures} pictures are shared as {expected}, got shares of {lengths}")
    rounds = zip_longest(*(share.pictures for share in shares))
    return Scores(tuple(score for round in rounds for score in round if score is not None))


class _Picture(NamedTuple):
    """A pair of pictures, ``[H, W, 3]`` uint8, and the blurred one as the network takes it."""

    scene: str
    name: str
    blurred: np.ndarray
    sharp: np.ndarray
    planes: np.ndarray


def _read(pairs: Pairs, index: int) -> _Picture:
    blurred, sharp = pairs.read(index)
    return _Picture(pairs.scenes[index], pairs.names[index], blurred, sharp, to_float(blurred))


def _score(
    picture: _Picture, planes: np.ndarray, loss_eps: float, matlab3d: bool = False
) -> PictureScore:
    error = planes.astype(np.float64) - to_float(picture.sharp)
    return PictureScore(
        scene=picture.scene,
        name=picture.name,
        blurred=quality(picture.blurred, picture.sharp, matlab3d),
        result=quality(to_uint8(planes), picture.sharp, matlab3d),
        loss=float(np.sqrt(error**2 + loss_eps**2).mean()),
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _mean_if_taken(values: Sequence[float | None]) -> float | None:
    taken = [value for value in values if value is not None]
    return _mean(taken) if taken and len(taken) == len(values) else None
