"""Stage 4: measure on held-out pictures, as the server would deliver them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.prepare import PreparedData
from components.train import TrainResult
from deblur.atomic import whole_file
from deblur.data.layout import Averaging
from deblur.progress import SILENT, Progress
from deblur.tracking import tracked_run

if TYPE_CHECKING:
    from deblur.predictors import Predictor
    from deblur.report import EvaluationReport

#: In the folder of the report: a few pictures before and after.
SHEET = "before_after.jpg"


@dataclass(frozen=True)
class EvalResult:
    """Means over the test pictures, PSNR in dB, beside the blurred input's own.

    ``metrics`` holds the same figures under the names that MLflow and the ONNX file carry;
    ``report`` is the folder of ``report.html``, ``report.json`` and the sheet ``before_after.jpg``;
    ``sentences`` say what a person has to know to trust the figures.
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
    sentences: tuple[str, ...] = ()


def evaluate(
    training: TrainResult, data: PreparedData, split: str = "test", progress: Progress = SILENT
) -> EvalResult:
    """Evaluate the best checkpoint on whole pictures, through the serving tiler, in float32.

    Scores and report lie beside the checkpoint and are logged to its run.
    """
    from deblur.predictors import open_predictor
    from deblur.training.checkpoint import load_checkpoint

    path = Path(training.checkpoint)
    config = load_checkpoint(path).train_config()
    folder = path.with_name(f"evaluation_{split}")
    scores_path = path.with_name(f"scores_{split}.json")
    with open_predictor(str(path)) as predictor:
        result = _measure(
            predictor, data.path, split, config.subset, folder, scores_path, config.loss_eps,
            progress,
        )  # fmt: skip
    with tracked_run(path.parent.name, training.run_id) as run:
        run.metrics(result.metrics)
        run.artifact(scores_path)
        for file in sorted(folder.glob("report.*")):
            run.artifact(file, folder.name)
    return result


def evaluate_model(
    model: str,
    data_root: str,
    out: str,
    split: str = "test",
    subset: Averaging = "blur",
    progress: Progress = SILENT,
) -> EvalResult:
    """Evaluate any model on whole pictures, through the tiles that it is served with.

    Args:
        model: whatever ``deblur.predictors.open_predictor`` opens: a checkpoint or a run's folder,
            an ONNX file, a registered version as ``models:/deblur-unet@champion``, a server.
        data_root: address of the data set, prepared or not.
        out: folder of report and scores.
        split: of the data.
        subset: which blurred folder.
        progress: shows the pictures.

    Raises:
        DataError: there is no such data or split, or a picture cannot be read.
        ModelFileError, CheckpointError: there is no such model, or it cannot be run.
        SetupError: a server or a store does not answer.
    """
    from deblur.predictors import open_predictor

    folder = Path(out)
    with open_predictor(model) as predictor:
        return _measure(
            predictor, data_root, split, subset, folder, folder / f"scores_{split}.json", 1e-3,
            progress,
        )  # fmt: skip


def _measure(
    predictor: "Predictor",
    data: str,
    split: str,
    subset: Averaging,
    folder: Path,
    scores_path: Path,
    loss_eps: float,
    progress: Progress,
) -> EvalResult:
    from deblur.report import evaluate_and_report

    report = evaluate_and_report(predictor, data, split, subset, folder, progress, loss_eps)
    _write_sheet(report, folder / SHEET)
    scores = report.scores
    table = {
        "kind": report.source.kind,
        "pictures": [asdict(picture) for picture in scores.pictures],
    }
    with whole_file(scores_path) as partial:
        partial.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return EvalResult(
        split=split,
        pictures=len(scores.pictures),
        psnr=scores.psnr,
        ssim=scores.ssim,
        blurred_psnr=scores.blurred_psnr,
        blurred_ssim=scores.blurred_ssim,
        scores_path=str(scores_path),
        metrics=scores.metrics(split),
        report=str(folder),
        sentences=tuple(report.sentences()),
    )


def _write_sheet(report: "EvaluationReport", file: Path) -> None:
    """The best, the median and the worst picture by gain, before and after, in JPEG."""
    from deblur.data.pairs import open_pairs
    from deblur.images import to_float, to_uint8
    from deblur.report.panels import chosen
    from deblur.sheet import SheetRow, before_after_sheet

    source = report.source
    pairs, rows = open_pairs(source.data, source.split, source.subset), []
    for role, index in chosen(report.scores).items():
        blurred, sharp = pairs.read(index)
        restored = to_uint8(report.model.predict(to_float(blurred)))
        rows.append(SheetRow(f"{role}, {pairs.scenes[index]}", blurred, restored, sharp))
    footer = f"best, median and worst by gain; figures of whole pictures; {source.kind} blur"
    with whole_file(file) as partial:
        before_after_sheet(rows, footer).save(partial, format="JPEG", quality=85)
