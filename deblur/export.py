"""From a checkpoint to files that others run: ONNX with its contract, and the weights alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from deblur.atomic import whole_file
from deblur.contract import Form, ModelContract
from deblur.data.pairs import Pairs
from deblur.digests import code_revision, file_sha256
from deblur.errors import ModelFileError
from deblur.export_graph import onnx_graph
from deblur.export_parity import PARITY_LIMIT, measure_parity, parity_pictures
from deblur.inputs import Baseline, measure
from deblur.models import traits
from deblur.serving.setting import setting_file
from deblur.training.checkpoint import Checkpoint
from deblur.weights import save_safetensors

#: Pictures that a baseline is made of at most: beside windows of 200, more would hardly make it
#: surer.
_BASELINE_PICTURES = 500


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the ONNX file.
        sha256: its digest.
        parity: its largest difference from torch, by picture and size, see ``measure_parity``.
        safetensors: the weights alone.
    """

    path: Path
    sha256: str
    parity: dict[str, float]
    safetensors: Path


def export_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    metrics: Mapping[str, float],
    data_kind: str,
    form: Form = "float",
    photographs: Mapping[str, np.ndarray] | None = None,
    baseline: Baseline | None = None,
) -> Exported:
    """Write the network of a checkpoint, check it, and only then put it in place.

    Args:
        checkpoint: what to export.
        path: the ONNX file to write; ``model.onnx`` gets ``model.safetensors`` beside it.
        metrics: figures of the model as served, for its contract.
        data_kind: ``simulated`` or ``recorded``, what they were measured on.
        form: what the ONNX file takes and gives, see ``deblur.export_graph``.
        photographs: what to compare it with torch on, see ``parity_pictures``.
        baseline: what the pictures were like that the metrics were measured on, see
            ``baseline_of``.

    Raises:
        ModelFileError: the file differs from torch by more than 1e-4 on some picture.
    """
    contract = contract_of(checkpoint, metrics, data_kind, form)
    if baseline is not None:
        contract = replace(contract, baseline=baseline.to_json())
    return export_network(checkpoint.network(), contract, path, photographs)


def contract_of(
    checkpoint: Checkpoint, metrics: Mapping[str, float], data_kind: str, form: Form = "float"
) -> ModelContract:
    """The contract of a checkpoint's network; the arguments are those of ``export_checkpoint``."""
    config = checkpoint.train_config()
    kind = traits(config.architecture)
    return ModelContract(
        architecture=kind.name,
        base_ch=config.base_ch,
        residual=config.residual,
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
        form=form,
    )


def baseline_of(pairs: Pairs) -> Baseline | None:
    """What the blurred pictures of ``pairs`` are like, for the contract; ``None`` of no pairs.

    Of more than 500 pictures 500 are read, spread evenly over the set.
    """
    count = min(len(pairs), _BASELINE_PICTURES)
    chosen = [index * len(pairs) // count for index in range(count)]
    return Baseline.of(measure(pairs.read(index)[0]) for index in chosen) if chosen else None


def export_network(
    model: nn.Module,
    contract: ModelContract,
    path: Path,
    photographs: Mapping[str, np.ndarray] | None = None,
) -> Exported:
    """Write ``model`` with its contract, check the file, and only then put it in place.

    A serving setting beside an earlier file of that name is removed: it was tuned for that one.

    Args:
        model: on the CPU, in evaluation mode.
        contract: what the files are to say about themselves; its ``form`` is the ONNX file's.
        path: the ONNX file to write.
        photographs: what to compare it with torch on, see ``parity_pictures``.

    Raises:
        ModelFileError: the file differs from torch by more than 1e-4 on some picture.
    """
    weights = path.with_suffix(".safetensors")
    if weights == path:
        raise ModelFileError(f"{path} is the name of the weights: name the ONNX file  *.onnx")
    with whole_file(path) as partial, whole_file(weights) as partial_weights:
        onnx.save(onnx_graph(model, contract), partial)
        parity = measure_parity(model, partial, contract.form, parity_pictures(photographs))
        differing = {name: value for name, value in parity.items() if not value <= PARITY_LIMIT}
        if differing:
            raise ModelFileError(
                f"the exported network differs from torch by {max(differing.values()):.2e} "
                f"(allowed {PARITY_LIMIT}) on {', '.join(differing)}; nothing was written. Export "
                "with the versions of torch and onnxruntime in constraints.txt"
            )
        save_safetensors(model, contract, partial_weights)
        setting_file(path).unlink(missing_ok=True)
    return Exported(path, file_sha256(path), parity, weights)
