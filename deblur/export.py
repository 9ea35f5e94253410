"""From torch to one ONNX file for any picture size, with its contract and a parity check."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from deblur.atomic import whole_file
from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.digests import code_revision, file_sha256
from deblur.errors import ModelFileError
from deblur.models import traits
from deblur.training.checkpoint import Checkpoint

OPSET = 21  # the first with GroupNormalization as one operator that onnxruntime runs natively
PARITY_SIZES = ((256, 256), (97, 131), (33, 250))
PARITY_LIMIT = 1e-4


@dataclass(frozen=True)
class Exported:
    """The file, its SHA-256, and the largest difference from torch by picture size."""

    path: Path
    sha256: str
    parity: dict[str, float]


def export_checkpoint(
    checkpoint: Checkpoint, path: Path, metrics: Mapping[str, float], data_kind: str
) -> Exported:
    """Write the network of a checkpoint as ONNX, check it, and only then put it in place.

    Args:
        checkpoint: what to export.
        path: the file to write.
        metrics: figures of the model as served, for its contract.
        data_kind: ``simulated`` or ``recorded``, what they were measured on.

    Raises:
        ModelFileError: the file differs from torch by more than 1e-4 at some size.
    """
    contract = contract_of(checkpoint, metrics, data_kind)
    return export_network(checkpoint.network(), contract, path)


def contract_of(
    checkpoint: Checkpoint, metrics: Mapping[str, float], data_kind: str
) -> ModelContract:
    """The contract of a checkpoint's network; the arguments are those of ``export_checkpoint``."""
    config = checkpoint.train_config()
    kind = traits(config.architecture)
    return ModelContract(
        architecture=kind.name,
        base_ch=config.base_ch,
        tile=config.tile,
        overlap=config.overlap,
        train_crop=config.patch_size,
        metrics=dict(metrics),
        data_kind=data_kind,
        subset=config.subset,
        data_digest=checkpoint.data_digest,
        config_digest=config.digest(),
        code_revision=code_revision(),
        norm=kind.norm,
        multiple=kind.multiple,
        tiling=kind.tiling,
    )


def export_network(model: nn.Module, contract: ModelContract, path: Path) -> Exported:
    """Write ``model`` with its contract, check the file, and only then put it in place.

    Args:
        model: on the CPU, in evaluation mode.
        contract: what the file is to say about itself.
        path: the file to write.

    Raises:
        ModelFileError: the file differs from torch by more than 1e-4 at some size.
    """
    with whole_file(path) as partial:
        onnx.save(_to_onnx(model, contract), partial)
        parity = measure_parity(model, partial)
        worst = max(parity.values())
        if worst > PARITY_LIMIT:
            raise ModelFileError(
                f"the exported network differs from torch by {worst:.2e} (allowed {PARITY_LIMIT}): "
                f"{parity}; nothing was written"
            )
    return Exported(path, file_sha256(path), parity)


def measure_parity(model: nn.Module, path: Path) -> dict[str, float]:
    """Largest absolute difference between torch and onnxruntime, by ``HxW``, on random pictures."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    parity = {}
    for height, width in PARITY_SIZES:
        picture = rng.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
        with torch.inference_mode():
            ours = model(torch.from_numpy(picture)).numpy()
        theirs = session.run([OUTPUT], {INPUT: picture})[0]
        parity[f"{height}x{width}"] = float(np.abs(ours - theirs).max())
    return parity


def _to_onnx(model: nn.Module, contract: ModelContract) -> onnx.ModelProto:
    # Sizes that are neither equal nor multiples of 16, so that no relation is baked in.
    example = torch.zeros(2, 3, 83, 118)
    dims = {
        0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC
    }  # fmt: skip
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(dims,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelFileError("torch.onnx.export gave nothing")
    proto = program.model_proto
    _name_dimensions(proto)
    for key, value in contract.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _name_dimensions(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers below errors for the length of a block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
