"""The command line ``deblur``. Every command imports what it needs when it runs, so ``--help`` is
quick and loads neither torch nor MLflow.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deblur.cli.common import Subset, parse_subset, readable_errors
from deblur.cli.data import app as data_app
from deblur.cli.training import checkpoints_app, train
from deblur.errors import DeblurError

app = typer.Typer(
    name="deblur",
    help="Motion deblurring: from pairs of photographs to a CPU picture server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.command()(train)
app.add_typer(checkpoints_app, name="checkpoints")


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    from deblur.cpus import sleep_when_idle
    from deblur.progress import StderrHandler

    sleep_when_idle()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[StderrHandler()],
    )
    logging.getLogger("deblur").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
@readable_errors
def evaluate(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, folder of a run, ONNX file or models:/ address.")
    ],
    data: Annotated[str, typer.Argument(help="Data set, prepared or not.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    subset: Subset = "blur",
) -> None:
    """PSNR and SSIM on whole pictures through the serving tiler, beside the blurred input's."""
    from rich.console import Console
    from rich.table import Table

    from deblur.data.pairs import data_kind, open_pairs
    from deblur.evaluation import evaluate as evaluate_pairs
    from deblur.progress import for_terminal

    predict = _predictor(model)
    averaging = parse_subset(subset)
    scores = evaluate_pairs(predict, open_pairs(data, split, averaging), for_terminal())
    table = Table(title=f"{model} on {data}, {split}, {data_kind(data, averaging)} blur")
    for heading in ("scene", "pictures", "blurred dB", "dB", "gain dB", "blurred SSIM", "SSIM"):
        table.add_column(heading, justify="left" if heading == "scene" else "right")
    for scene, part in (*scores.by_scene().items(), ("all", scores)):
        table.add_row(
            scene, str(len(part.pictures)), f"{part.blurred_psnr:.2f}", f"{part.psnr:.2f}",
            f"{part.gain:+.2f}", f"{part.blurred_ssim:.4f}", f"{part.ssim:.4f}",
            style="bold" if scene == "all" else "",
        )  # fmt: skip
    Console().print(table)


@app.command()
@readable_errors
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    data: Annotated[str, typer.Argument(help="Data set; its test split is measured.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Write one ONNX file with its serving contract, checked against torch."""
    from deblur.data.pairs import data_kind, open_pairs
    from deblur.evaluation import evaluate as evaluate_pairs
    from deblur.export import export_checkpoint
    from deblur.progress import for_terminal
    from deblur.training.folder import open_checkpoint

    loaded = open_checkpoint(checkpoint)
    subset = loaded.train_config().subset
    kind = data_kind(data, subset)
    pairs = open_pairs(data, "test", subset)
    scores = evaluate_pairs(loaded.predictor(), pairs, for_terminal())
    exported = export_checkpoint(loaded, out, scores.metrics("test"), kind)
    typer.echo(
        f"{exported.path}: {scores.psnr:.2f} dB on {kind} test pictures (blurred input "
        f"{scores.blurred_psnr:.2f}), at most {max(exported.parity.values()):.1e} from torch"
    )


@app.command()
@readable_errors
def predict(
    source: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    target: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    model: Annotated[
        str, typer.Option(help="ONNX file, checkpoint or models:/ address.")
    ] = "models:/deblur-unet@candidate",
    overwrite: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Deblur a picture or every picture of a folder."""
    from deblur.predict import predict_files
    from deblur.progress import for_terminal

    report = predict_files(_predictor(model), source, target, overwrite, for_terminal())
    typer.echo(
        f"{report.written} written to {target}"
        + (f", {report.skipped} already there" if report.skipped else "")
    )
    for problem in report.problems:
        typer.secho(problem, fg="yellow", err=True)
    if report.problems:
        raise DeblurError(f"{len(report.problems)} pictures could not be deblurred, see above")


@app.command()
@readable_errors
def serve(
    model: Annotated[
        str, typer.Option(envvar="DEBLUR_MODEL", help="ONNX file or models:/ address.")
    ] = "models:/deblur-unet@candidate",
    host: Annotated[
        str, typer.Option(envvar="DEBLUR_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="DEBLUR_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    threads: Annotated[
        int | None, typer.Option(envvar="DEBLUR_THREADS", min=1, help="Default: all usable CPUs.")
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(envvar="DEBLUR_MAX_MEGABYTES", min=0.001, help="Limit on the file.")
    ] = 64.0,
    max_megapixels: Annotated[
        float, typer.Option(envvar="DEBLUR_MAX_MEGAPIXELS", min=0.001, help="Limit on the picture.")
    ] = 100.0,
) -> None:
    """Serve a model over HTTP on the CPU."""
    from deblur.images import Limits
    from deblur.serving.engine import Engine
    from deblur.serving.server import listen, run_server

    with listen(host, port) as listener:
        with _local_model(model) as path:
            engine = Engine(path, threads)
        run_server(engine, listener, Limits(max_megabytes, max_megapixels))


@app.command()
@readable_errors
def fetch(
    address: Annotated[str, typer.Argument(help="As models:/deblur-unet@candidate.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
) -> None:
    """Download a registered model's ONNX file."""
    from deblur.registry import fetch_model

    typer.echo(str(fetch_model(address, out)))


@app.command()
@readable_errors
def doctor() -> None:
    """Check this machine, and say what mends each fault."""
    from deblur.doctor import examine, show

    if show(examine()):
        raise typer.Exit(2)


def _predictor(model: str) -> Any:
    """A picture function of a checkpoint, an ONNX file or a registered model."""
    if model.endswith(".pt") or Path(model).is_dir():
        from deblur.training.folder import open_checkpoint

        return open_checkpoint(Path(model)).predictor()
    from deblur.serving.engine import Engine

    with _local_model(model) as path:
        return Engine(path).predict


@contextmanager
def _local_model(model: str) -> Iterator[Path]:
    """The file itself, or a registered model as a file for as long as the block lasts.

    A ``models:/`` address is fetched by a process of its own: MLflow would stay in this process's
    memory for as long as it serves.
    """
    if not model.startswith("models:/"):
        yield Path(model)
        return
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        out = Path(folder) / "model.onnx"
        command = [sys.executable, "-m", "deblur", "fetch", model, str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.rpartition("error: ")[2].strip()
            raise DeblurError(said or f"fetching {model} ended with {done.returncode}")
        yield out
