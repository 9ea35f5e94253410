"""Stage 5: one ONNX file with its contract, checked against torch, and the weights beside it."""

from dataclasses import dataclass
from pathlib import Path

from components.evaluate import EvalResult
from components.prepare import PreparedData
from components.train import TrainResult


@dataclass(frozen=True)
class ExportResult:
    """The file, its SHA-256, its largest difference from torch by picture and size, the weights."""

    path: str
    sha256: str
    parity: dict[str, float]
    safetensors: str = ""


def export(training: TrainResult, evaluation: EvalResult, data: PreparedData) -> ExportResult:
    """Export the best checkpoint beside itself, with the evaluation's figures in its contract.

    Raises:
        ModelFileError: the file differs from torch; nothing is left behind.
    """
    from deblur.data.pairs import open_pairs
    from deblur.export import baseline_of, export_checkpoint
    from deblur.export_parity import some_of
    from deblur.training.checkpoint import load_checkpoint

    path = Path(training.checkpoint)
    checkpoint = load_checkpoint(path)
    pairs = open_pairs(data.path, evaluation.split, checkpoint.train_config().subset)
    exported = export_checkpoint(
        checkpoint,
        path.with_name("model.onnx"),
        evaluation.metrics,
        data.kind,
        photographs=some_of(pairs),
        baseline=baseline_of(pairs),
    )
    return ExportResult(
        str(exported.path), exported.sha256, exported.parity, str(exported.safetensors)
    )
