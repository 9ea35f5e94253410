"""Stage 4: measure on the held-out pictures, as the server would deliver them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.prepare import PreparedData
from components.train import TrainResult
from deblur.progress import SILENT, Progress
from deblur.tracking import tracked_run


@dataclass(frozen=True)
class EvalResult:
    """Means over the test pictures, PSNR in dB, beside the blurred input's own.

    ``metrics`` holds the same figures under the names that MLflow and the ONNX file carry.
    """

    split: str
    pictures: int
    psnr: float
    ssim: float
    blurred_psnr: float
    blurred_ssim: float
    scores_path: str
    metrics: dict[str, float]


def evaluate(
    training: TrainResult, data: PreparedData, split: str = "test", progress: Progress = SILENT
) -> EvalResult:
    """Evaluate the best checkpoint on whole pictures, through the serving tiler, in float32."""
    from deblur.data.pairs import open_pairs
    from deblur.evaluation import evaluate as evaluate_pairs
    from deblur.training.checkpoint import load_checkpoint

    path = Path(training.checkpoint)
    checkpoint = load_checkpoint(path)
    config = checkpoint.train_config()
    pairs = open_pairs(Path(data.path), split, config.subset)
    scores = evaluate_pairs(checkpoint.predictor(), pairs, progress, config.loss_eps)

    scores_path = path.with_name(f"scores_{split}.json")
    table = {"kind": data.kind, "pictures": [asdict(picture) for picture in scores.pictures]}
    scores_path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    result = EvalResult(
        split=split,
        pictures=len(scores.pictures),
        psnr=scores.psnr,
        ssim=scores.ssim,
        blurred_psnr=scores.blurred_psnr,
        blurred_ssim=scores.blurred_ssim,
        scores_path=str(scores_path),
        metrics=scores.metrics(split),
    )
    with tracked_run(path.parent.name, training.run_id) as run:
        run.metrics(result.metrics)
        run.artifact(scores_path)
    return result
