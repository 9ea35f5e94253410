"""Stage 4: measure on the held-out pictures, as the server would deliver them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.prepare import PreparedData
from components.train import TrainResult
from deblur.atomic import whole_file
from deblur.progress import SILENT, Progress
from deblur.tracking import tracked_run


@dataclass(frozen=True)
class EvalResult:
    """Means over the test pictures, PSNR in dB, beside the blurred input's own.

    ``metrics`` holds the same figures under the names that MLflow and the ONNX file carry;
    ``report`` is the folder of ``report.html`` and ``report.json``.
    """

    split: str
    pictures: int
    psnr: float
    ssim: float
    blurred_psnr: float
    blurred_ssim: float
    scores_path: str
    metrics: dict[str, float]
    report: str = ""


def evaluate(
    training: TrainResult, data: PreparedData, split: str = "test", progress: Progress = SILENT
) -> EvalResult:
    """Evaluate the best checkpoint on whole pictures, through the serving tiler, in float32.

    Scores and report lie beside the checkpoint and are logged to its run.
    """
    from deblur.predictors import open_predictor
    from deblur.report import evaluate_and_report
    from deblur.training.checkpoint import load_checkpoint

    path = Path(training.checkpoint)
    config = load_checkpoint(path).train_config()
    folder = path.with_name(f"evaluation_{split}")
    with open_predictor(str(path)) as predictor:
        scores = evaluate_and_report(
            predictor, data.path, split, config.subset, folder, progress, config.loss_eps
        ).scores

    scores_path = path.with_name(f"scores_{split}.json")
    table = {"kind": data.kind, "pictures": [asdict(picture) for picture in scores.pictures]}
    with whole_file(scores_path) as partial:
        partial.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    result = EvalResult(
        split=split,
        pictures=len(scores.pictures),
        psnr=scores.psnr,
        ssim=scores.ssim,
        blurred_psnr=scores.blurred_psnr,
        blurred_ssim=scores.blurred_ssim,
        scores_path=str(scores_path),
        metrics=scores.metrics(split),
        report=str(folder),
    )
    with tracked_run(path.parent.name, training.run_id) as run:
        run.metrics(result.metrics)
        run.artifact(scores_path)
        for file in sorted(folder.glob("report.*")):
            run.artifact(file, folder.name)
    return result
