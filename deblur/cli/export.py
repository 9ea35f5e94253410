"""The command ``deblur export``."""

from pathlib import Path
from typing import Annotated

import typer

from deblur.cli.common import readable_errors
from deblur.contract import Form


@readable_errors
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    data: Annotated[str, typer.Argument(help="Data set; its test split is measured.")],
    out: Annotated[
        Path, typer.Option(help="The ONNX file to write; the weights go beside it.")
    ] = Path("model.onnx"),
    form: Annotated[
        Form,
        typer.Option(help="float: planes in [-1, 1]; uint8: pixels, converted inside the graph."),
    ] = "float",
) -> None:
    """Write one ONNX file with its serving contract, checked against torch, and the weights."""
    from deblur.data.pairs import data_kind, open_pairs
    from deblur.evaluation import evaluate as evaluate_pairs
    from deblur.export import baseline_of, export_checkpoint
    from deblur.export_graph import OPSET
    from deblur.export_parity import some_of
    from deblur.progress import for_terminal
    from deblur.training.folder import open_checkpoint

    loaded = open_checkpoint(checkpoint)
    subset = loaded.train_config().subset
    kind = data_kind(data, subset)
    pairs = open_pairs(data, "test", subset)
    scores = evaluate_pairs(loaded.predictor(), pairs, for_terminal())
    exported = export_checkpoint(
        loaded, out, scores.metrics("test"), kind, form, photographs=some_of(pairs),
        baseline=baseline_of(pairs),
    )  # fmt: skip
    worst = max(exported.parity, key=lambda name: exported.parity[name])
    typer.echo(
        f"{exported.path}: {_megabytes(exported.path)}, opset {OPSET}, {form} form\n"
        f"{exported.safetensors}: {_megabytes(exported.safetensors)}, the weights alone\n"
        f"{scores.psnr:.2f} dB on {kind} test pictures (blurred input {scores.blurred_psnr:.2f}); "
        f"at most {exported.parity[worst]:.1e} from torch on {len(exported.parity)} pictures "
        f"({worst})"
    )


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
