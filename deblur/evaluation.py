"""Evaluation on whole pictures, through the serving tiler, beside the blurred input."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deblur.data.pairs import Pairs
from deblur.images import to_float, to_uint8
from deblur.metrics import Quality, quality
from deblur.progress import SILENT, Progress

#: Maps one picture ``[1, 3, H, W]`` float32 in [-1, 1] to the same shape; tiles it inside.
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PictureScore:
    """One picture before and after."""

    scene: str
    name: str
    blurred: Quality
    result: Quality
    loss: float


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
        return {
            f"{split}_psnr": self.psnr,
            f"{split}_ssim": self.ssim,
            f"{split}_blurred_psnr": self.blurred_psnr,
            f"{split}_blurred_ssim": self.blurred_ssim,
        }


def evaluate(
    predict: Predict,
    pairs: Pairs,
    progress: Progress = SILENT,
    loss_eps: float = 1e-3,
    name: str = "evaluate",
) -> Scores:
    """Score every picture of ``pairs``.

    Args:
        predict: the model with its tiling.
        pairs: blurred and sharp pictures.
        progress: shows the pictures done.
        loss_eps: eps of the Charbonnier loss that is reported beside the metrics.
        name: what the progress calls it.
    """
    scores = []
    with progress.task(name, len(pairs), "pictures") as advance:
        for index in range(len(pairs)):
            blurred, sharp = pairs.read(index)
            planes = predict(to_float(blurred))
            error = planes.astype(np.float64) - to_float(sharp)
            scores.append(
                PictureScore(
                    scene=pairs.scenes[index],
                    name=pairs.names[index],
                    blurred=quality(blurred, sharp),
                    result=quality(to_uint8(planes), sharp),
                    loss=float(np.sqrt(error**2 + loss_eps**2).mean()),
                )
            )
            advance(1)
    return Scores(tuple(scores))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
