"""Checkpoints: written whole or not at all, loaded without running anything from the file."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deblur.atomic import whole_file
from deblur.device import choose_numerics
from deblur.errors import CheckpointError, ConfigError
from deblur.evaluation import Predict
from deblur.models import DeblurUNet
from deblur.models.inference import tiled_predictor
from deblur.training.config import TrainConfig, make_config

FORMAT = 1
LAST = "last.pt"
BEST = "best.pt"


@dataclass
class Checkpoint:
    """The state of a run after a whole epoch.

    Attributes:
        config: the run's configuration, as plain values.
        data_digest: digest of the data manifest that it trains on.
        epoch: epochs done.
        step: optimizer steps done.
        model: the raw weights.
        ema: the averaged weights, if the run keeps them.
        optimizer, scaler: their states.
        best_psnr: highest validation PSNR in dB so far, and ``stale``, validations since then.
        metrics: the latest validation's figures.
    """

    config: dict[str, Any]
    data_digest: str
    epoch: int
    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    best_psnr: float
    stale: int
    metrics: dict[str, float]

    def train_config(self) -> TrainConfig:
        """The configuration, validated again."""
        try:
            return make_config("seed", self.config)
        except ConfigError as error:
            raise CheckpointError(f"the checkpoint is of another version: {error}") from None

    def network(self) -> DeblurUNet:
        """The network with the weights to use: the averaged ones if there are any.

        Raises:
            CheckpointError: the weights are not those of the configured architecture.
        """
        config = self.train_config()
        model = DeblurUNet(base_ch=config.base_ch, residual=config.residual)
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
    try:
        with whole_file(path) as partial:
            torch.save({"format": FORMAT, **checkpoint.__dict__}, partial)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot save {path}: {error}. The previous checkpoint is untouched; free some space "
            "or make the folder writable, then start the same command again"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, tensors and plain values only (``weights_only``).

    Raises:
        CheckpointError: there is no such file, it is damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: train one with  deblur train")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({str(error).splitlines()[0]}): use an earlier "
            "one from the same folder"
        ) from None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this program (format {FORMAT}): expected a file "
            "written by  deblur train"
        )
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{path} lacks parts of a checkpoint: {error}") from None
