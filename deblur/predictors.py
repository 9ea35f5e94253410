"""A model by its address, as a function of whole pictures.

Everything that measures a model takes it from here, so that a checkpoint, the file exported from
it, the registered version and the server that runs it are measured in one way.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from deblur.digests import file_sha256
from deblur.errors import DeblurError, SetupError
from deblur.evaluation import Predict
from deblur.images import Picture, decode_rgb, encode_picture, to_float, to_uint8

if TYPE_CHECKING:
    from deblur.training.checkpoint import Checkpoint

Kind = Literal["checkpoint", "onnx", "registered", "server"]

#: Seconds without a byte from a server: that it is asked about itself, and that it deblurs.
_READY_SECONDS, _PICTURE_SECONDS = 10.0, 600.0


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
        address: a checkpoint (``.pt``), the folder of a run (its best checkpoint), an ONNX file, a
            registered model (``models:/deblur-unet@candidate``), or a running server
            (``http://host:port``).

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        ModelFileError: there is no such ONNX file or registered model, or it cannot be served.
        SetupError: the server does not answer, or not as one of this program; MLflow's store
            cannot be reached.
    """
    if address.startswith(("http://", "https://")):
        yield _of_server(address)
    elif address.endswith(".pt") or (":/" not in address and Path(address).is_dir()):
        yield _of_checkpoint(address)
    else:
        with local_model(address) as path:
            yield _of_file(address, path)


@contextmanager
def local_model(address: str, tuned: bool = True) -> Iterator[Path]:
    """The ONNX file itself, or a registered model as a file for as long as the block lasts.

    ``tuned`` says whether a registered one comes as it is served, or as it was registered.

    A ``models:/`` address is fetched by a process of its own: MLflow would stay in this process's
    memory for as long as it serves.
    """
    if not address.startswith("models:/"):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        out = Path(folder) / "model.onnx"
        plain = [] if tuned else ["--plain"]
        command = [sys.executable, "-m", "deblur", "fetch", *plain, address, str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.rpartition("error: ")[2].strip()
            raise DeblurError(said or f"fetching {address} ended with {done.returncode}")
        yield out


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
    client = _Client(address.rstrip("/"))
    said = client.ready()
    try:
        model = said["model"]
        client.expected = str(model["sha256"])
        return Predictor(
            predict=client.predict,
            tile=int(model["tile"]),
            overlap=int(model["overlap"]),
            identity=client.expected,
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


class _Client:
    """Posts pictures to a server, one after the other.

    Attributes:
        expected: SHA-256 of the model that has to answer.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.expected = ""

    def ready(self) -> dict[str, Any]:
        """What the server says about itself."""
        content, _ = self._ask(Request(f"{self.address}/readyz"), _READY_SECONDS)
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise SetupError(
                f"{self.address}/readyz answers {content[:40]!r}: expected the address of a server "
                "started by  deblur serve, without a path"
            )
        return said

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """``[1, 3, H, W]`` in [-1, 1] to the same, both by way of 8-bit pixels."""
        request = Request(
            f"{self.address}/v1/deblur",
            data=encode_picture(Picture(to_uint8(planes)), "PNG"),
            headers={"Content-Type": "image/png", "Accept": "image/png"},
        )
        content, headers = self._ask(request, _PICTURE_SECONDS)
        answered = headers.get("X-Deblur-Model", "")
        if answered != self.expected:
            raise SetupError(
                f"{self.address} now runs model {answered[:12] or 'unknown'}, at the start it was "
                f"{self.expected[:12]}: measure again, one server with one model"
            )
        pixels = decode_rgb(content, f"the answer of {self.address}")
        if pixels.shape[:2] != planes.shape[2:]:
            raise SetupError(
                f"{self.address} answered a picture of {pixels.shape[1]}x{pixels.shape[0]} to one "
                f"of {planes.shape[3]}x{planes.shape[2]}: expected the same size"
            )
        return to_float(pixels)

    def _ask(self, request: Request, seconds: float) -> tuple[bytes, Message]:
        try:
            with urlopen(request, timeout=seconds) as answer:
                return answer.read(), answer.headers
        except HTTPError as error:
            raise SetupError(
                f"{request.full_url} answers {error.code} ({_detail(error)}): is this a server "
                "started by  deblur serve, and does it accept pictures of this size?"
            ) from None
        except TimeoutError:
            reason = f"no answer within {seconds:g} s"
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise SetupError(
            f"the server {self.address} does not answer ({reason}): start one with  deblur serve, "
            "or mend the address"
        )


def _detail(error: HTTPError) -> str:
    """What an answer says beyond its number."""
    try:
        said = json.loads(error.read(10_000))["detail"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return error.reason
    return said if isinstance(said, str) else error.reason


def _network(architecture: str, base_ch: int) -> str:
    return f"{architecture}, base_ch {base_ch}"
