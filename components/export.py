"""Stage 5: one ONNX file with its contract, checked against torch."""

from dataclasses import dataclass
from pathlib import Path

from components.evaluate import EvalResult
from components.prepare import PreparedData
from components.train import TrainResult


@dataclass(frozen=True)
class ExportResult:
    """The file, its SHA-256, and its largest difference from torch by picture size."""

    path: str
    sha256: str
    parity: dict[str, float]


def export(training: TrainResult, evaluation: EvalResult, data: PreparedData) -> ExportResult:
    """Export the best checkpoint beside itself, with the evaluation's figures in its contract.

    Raises:
        ModelFileError: the file differs from torch; nothing is left behind.
    """
    from deblur.export import export_checkpoint
    from deblur.training.checkpoint import load_checkpoint

    checkpoint = Path(training.checkpoint)
    exported = export_checkpoint(
        load_checkpoint(checkpoint),
        checkpoint.with_name("model.onnx"),
        evaluation.metrics,
        data.kind,
    )
    return ExportResult(str(exported.path), exported.sha256, exported.parity)
