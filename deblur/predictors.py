"""A model by its address, as a function of whole pictures.

Everything that measures a model takes it from here, so that a checkpoint, the file exported from
it, the registered version and the server that runs it are measured in one way.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from deblur.client import Client
from deblur.default import DEFAULT, DEFAULT_MODEL
from deblur.digests import file_sha256
from deblur.errors import DeblurError, SetupError
from deblur.evaluation import Predict
from deblur.images import Picture, decode_rgb, encode_picture, to_float, to_uint8

if TYPE_CHECKING:
    from deblur.training.checkpoint import Checkpoint

Kind = Literal["checkpoint", "onnx", "registered", "server"]


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to run.

    Attributes:
        predict: maps a picture ``[1, 3, H, W]`` float32 in [-1, 1] to the same shape, in tiles. A
            server's result is rounded to 8 bit; the others' is not even clamped.
        tile, overlap: the geometry of its tiles in pixels.
        identity: SHA-256 of the file that holds its weights; a server names its own.
        kind: what the address named.
        address: the address itself.
        network: architecture and width, as ``DeblurUNet, base_ch 32``.
        precision: what it computes in: ``fp32``, ``bf16``, ``int8``; ``unknown`` of a server that
            does not say it.
        rounded: whether what ``predict`` returns, or each tile of it, comes in steps of about a
            level of 8 bit.
    """

    predict: Predict
    tile: int
    overlap: int
    identity: str
    kind: Kind
    address: str
    network: str
    precision: str
    rounded: bool = False


@contextmanager
def open_predictor(address: str) -> Iterator[Predictor]:
    """The model at an address, for as long as the block lasts.

    Args:
        address: ``default`` (the model that comes with the package), a checkpoint (``.pt``), the
            folder of a run (its best checkpoint), an ONNX file, a registered model
            (``models:/deblur-unet@candidate``), or a running server (``http://host:port``).

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        ModelFileError: there is no such ONNX file or registered model, or it cannot be served.
        SetupError: the server does not answer, or not as one of this program; MLflow's store
            cannot be reached.
    """
    if address.startswith(("http://", "https://")):
        yield _of_server(address)
    elif _is_checkpoint(address):
        yield _of_checkpoint(address)
    else:
        with local_model(address) as path:
            yield _of_file(address, path)


@contextmanager
def local_model(address: str, tuned: bool = True) -> Iterator[Path]:
    """The ONNX file itself, or a registered model as a file for as long as the block lasts.

    ``tuned`` says whether a registered one comes as it is served, or as it was registered.
    """
    if not address.startswith("models:/"):
        yield model_file(address)
        return
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        out = Path(folder) / "model.onnx"
        run_registry("fetch", *([] if tuned else ["--plain"]), address, str(out))
        yield out


def model_file(address: str) -> Path:
    """The ONNX file of an address that is not of a registered model."""
    return DEFAULT_MODEL if address == DEFAULT else Path(address)


def run_registry(*arguments: str) -> str:
    """What ``deblur`` prints with these arguments, run as a process of its own: in this one MLflow
    would stay in memory for as long as it serves.

    Raises:
        DeblurError: with the sentence that it ends with, if it fails.
    """
    command = [sys.executable, "-m", "deblur", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.rpartition("error: ")[2].strip()
        raise DeblurError(said or f"deblur {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def _is_checkpoint(address: str) -> bool:
    if address == DEFAULT or ":/" in address:
        return False
    return address.endswith(".pt") or Path(address).is_dir()


def _of_checkpoint(address: str) -> Predictor:
    from deblur.models import traits
    from deblur.training.folder import open_checkpoint

    checkpoint = open_checkpoint(Path(address))
    config = checkpoint.train_config()
    return Predictor(
        predict=checkpoint.predictor(),
        tile=config.tile,
        overlap=config.overlap,
        identity=_checkpoint_sha256(Path(address), checkpoint),
        kind="checkpoint",
        address=address,
        network=_network(traits(config.architecture).name, config.base_ch),
        precision="fp32",
    )


def _checkpoint_sha256(path: Path, checkpoint: "Checkpoint") -> str:
    """Digest of the file that ``open_checkpoint`` took."""
    from deblur.training.folder import BEST, CheckpointFolder

    if path.is_dir() and not (path / BEST).is_file():
        entries = CheckpointFolder(path).entries().values()
        return next((e.sha256 for e in entries if e.step == checkpoint.step), "unknown")
    return file_sha256(path / BEST if path.is_dir() else path)


def _of_file(address: str, path: Path) -> Predictor:
    from deblur.serving.engine import Engine

    engine = Engine(path)
    return Predictor(
        predict=engine.predict,
        tile=engine.setting.tile,
        overlap=engine.setting.overlap,
        identity=engine.sha256,
        kind="registered" if address.startswith("models:/") else "onnx",
        address=address,
        network=_network(engine.contract.architecture, engine.contract.base_ch),
        precision=engine.setting.precision,
        rounded=engine.rounded,
    )


def _of_server(address: str) -> Predictor:
    client = Client(address, os.environ.get("DEBLUR_API_KEY"))
    said = client.ready()
    try:
        model = said["model"]
        identity = str(model["sha256"])
        return Predictor(
            predict=_predict_on(client, identity),
            tile=int(model["tile"]),
            overlap=int(model["overlap"]),
            identity=identity,
            kind="server",
            address=address,
            network=_network(model["architecture"], model["base_ch"]),
            precision=str(model.get("precision", "unknown")),
            rounded=True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(
            f"{address}/readyz does not describe a model ({type(error).__name__}: {error}): "
            "expected a server started by  deblur serve  of this version"
        ) from None


def _predict_on(client: Client, expected: str) -> Predict:
    """``[1, 3, H, W]`` in [-1, 1] to the same, both by way of 8-bit pixels, by the model with the
    digest ``expected``."""

    def predict(planes: np.ndarray) -> np.ndarray:
        answer = client.deblur(encode_picture(Picture(to_uint8(planes)), "PNG"), "image/png")
        answered = answer.headers.get("X-Deblur-Model", "")
        if answered != expected:
            raise SetupError(
                f"{client.address} now runs model {answered[:12] or 'unknown'}, at the start it "
                f"was {expected[:12]}: measure again, one server with one model"
            )
        pixels = decode_rgb(answer.content, f"the answer of {client.address}")
        if pixels.shape[:2] != planes.shape[2:]:
            raise SetupError(
                f"{client.address} answered a picture of {pixels.shape[1]}x{pixels.shape[0]} to "
                f"one of {planes.shape[3]}x{planes.shape[2]}: expected the same size"
            )
        return to_float(pixels)

    return predict


def _network(architecture: str, base_ch: int) -> str:
    return f"{architecture}, base_ch {base_ch}"
