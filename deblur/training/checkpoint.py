"""One checkpoint: what it holds, written whole or not at all, read without running anything."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deblur.atomic import whole_file
from deblur.device import choose_numerics
from deblur.errors import CheckpointError, ConfigError
from deblur.evaluation import Predict
from deblur.models import build_network
from deblur.models.inference import tiled_predictor
from deblur.training.config import TrainConfig, make_config

FORMAT = 2


@dataclass
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        config: the run's configuration, as plain values.
        data_digest: digest of the data manifest that it trains on.
        epoch: epochs done, with their validation.
        step: steps done; those past the epochs belong to the one under way.
        loss_sum, loss_count: of the epoch under way, over its finite losses.
        model: the raw weights.
        ema: the averaged weights, if the run keeps them.
        optimizer, scaler: their states.
        rng: states of torch's generators, by device.
        best_psnr: highest validation PSNR in dB so far, and ``stale``, validations since then.
        history: a ``CurvePoint`` of each validation, as plain values.
        skipped: steps without a finite gradient so far, ``skipped_in_row``: the latest of them.
        seconds: time spent training.
        compiled: whether the network ran compiled; it then goes on so, to the same rounding.
    """

    config: dict[str, Any]
    data_digest: str
    epoch: int
    step: int
    loss_sum: float
    loss_count: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    rng: dict[str, torch.Tensor]
    best_psnr: float
    stale: int
    history: list[dict[str, float]]
    skipped: int
    skipped_in_row: int
    seconds: float
    compiled: bool

    def train_config(self) -> TrainConfig:
        """The configuration, validated again."""
        try:
            return make_config("seed", self.config)
        except ConfigError as error:
            raise CheckpointError(f"the checkpoint is of another version: {error}") from None

    def network(self) -> nn.Module:
        """The network with the weights to use: the averaged ones if there are any.

        Raises:
            CheckpointError: the weights are not those of the configured architecture.
        """
        config = self.train_config()
        model = build_network(config.architecture, config.base_ch, config.residual)
        load_weights(model, self.ema if self.ema is not None else self.model)
        return model.eval()

    def predictor(self) -> Predict:
        """The network as the server runs it: float32, the run's serving tiles."""
        config, numerics = self.train_config(), choose_numerics("fp32")
        model = self.network().to(numerics.device)
        return tiled_predictor(model, numerics, config.tile, config.overlap)


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Fill ``model``; a ``CheckpointError`` names what differs."""
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & weights.keys()
        if own[key].shape != weights[key].shape
    ]
    if missing or extra or shapes:
        found = [f"{len(missing)} weights are missing (first {missing[0]})"] if missing else []
        found += [f"{len(extra)} are unknown (first {extra[0]})"] if extra else []
        found += sorted(shapes)[:1]
        raise CheckpointError(
            "the checkpoint is of another architecture: " + "; ".join(found)
            + ". Use one that this version trained, or set base_ch to the checkpoint's"
        )  # fmt: skip
    model.load_state_dict(weights)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write through a temporary file and an atomic replace; the previous file stays on failure.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full.
    """
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    try:
        # To a file of Python's: of one of its own torch does not say why it cannot be written.
        with whole_file(path) as partial, partial.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot save {path}: {_reason(error)}. The previous checkpoint is untouched; free "
            "some space or make the folder writable, then start the same command again"
        ) from error


def _reason(error: BaseException) -> str:
    """The system's words on a failed write; torch's writer adds a complaint of its own to them."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return str(cause or error)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, tensors and plain values only (``weights_only``), checksums first.

    Raises:
        CheckpointError: there is no such file, it is damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: train one with  deblur train")
    try:
        # torch does not look at the checksums of its own archives.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            # What is marked as a folder it does not even read, but takes the memory as it is.
            folders = [info.filename for info in archive.infolist() if info.external_attr & 0x10]
        if damaged or folders:
            raise ValueError(f"the checksum of {damaged or folders[0]} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive can raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({reason}): use an earlier one from the same "
            "folder"
        ) from None
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError(
            f"{path} is not a checkpoint of this program: expected a file written by  deblur train"
        )
    if content.pop("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of another version of this program (expected format {FORMAT})"
            ": train again, or read it with the version that wrote it"
        )
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{path} lacks parts of a checkpoint: {error}") from None
