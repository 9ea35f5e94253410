"""The contract that travels inside every ONNX file, as its ``metadata_props``.

Exporting writes it, serving refuses a file without it. It imports neither torch nor onnx.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from deblur.errors import ModelFileError

PREFIX = "deblur."
VERSION = 3
INPUT, OUTPUT = "blurred", "restored"

Form = Literal["float", "uint8"]
Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class ModelContract:
    """What whoever runs the network must know.

    Attributes:
        architecture: name of the network.
        base_ch: its width.
        residual: whether it adds its input to what it computes. With the two above it is all that
            building the network takes.
        colour_order: order of the channels.
        value_range: range of input and output values; 8-bit v is ``v / 127.5 - 1``.
        tile, overlap, multiple: serving geometry in pixels; origins lie on ``multiple``.
        train_crop: side of the training crops.
        norm: the normalisation layers, ``group8`` or ``layer``.
        tiling: ``tile-bound`` if the figures hold for tiles of this size alone, because each output
            pixel depends on statistics of its whole tile; ``free`` if it does not.
        form: ``float``: ``[N, 3, H, W]`` float32 in ``value_range`` to the same; ``uint8``:
            ``[N, H, W, 3]`` uint8 to the same, converted inside the graph.
        precision: ``fp32``, or ``int8`` for a quantised file.
        metrics: figures of the model as served, PSNR in dB; ``blurred_psnr`` is the input's.
        data_kind: ``simulated`` or ``recorded``, what the figures were measured on.
        subset: ``blur`` or ``blur_gamma``.
        data_digest: SHA-256 of the data manifest.
        config_digest: SHA-256 of the training configuration.
        code_revision: git revision that exported it.
        version: version of this contract.
        baseline: what the pictures were like that the figures were measured on, as
            ``deblur.inputs.Baseline.to_json`` gives it; ``None`` in files that say nothing of it.
    """

    architecture: str
    base_ch: int
    tile: int
    overlap: int
    train_crop: int
    metrics: Mapping[str, float]
    data_kind: str
    subset: str
    data_digest: str
    config_digest: str
    code_revision: str
    norm: str = "group8"
    multiple: int = 16
    tiling: str = "tile-bound"
    form: Form = "float"
    precision: Precision = "fp32"
    residual: bool = True
    colour_order: str = "RGB"
    value_range: str = "[-1, 1]"
    version: int = VERSION
    baseline: Mapping[str, Any] | None = None

    def to_metadata(self) -> dict[str, str]:
        """The contract as ONNX metadata: ``deblur.tile = "256"`` and so on."""
        values = asdict(self)
        if self.baseline is None:
            del values["baseline"]
        return {PREFIX + key: json.dumps(value) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> "ModelContract":
        """Read the contract of the file ``source``.

        Raises:
            ModelFileError: keys are missing, unreadable, or of another version, or a value is none
                that this program knows.
        """
        # First of all, because other versions have other keys.
        version = metadata.get(PREFIX + "version")
        if version is not None and version != json.dumps(VERSION):
            raise ModelFileError(
                f"{source} has contract version {version}, this program reads {VERSION}: export "
                "its checkpoint again with this version's  deblur export"
            )
        names = [f.name for f in fields(cls) if f.name != "baseline" or PREFIX + f.name in metadata]
        missing = [name for name in names if PREFIX + name not in metadata]
        if missing:
            raise ModelFileError(
                f"{source} does not carry the serving contract: {', '.join(missing)} missing from "
                "its metadata. Only files written by  deblur export  can be served, because tile "
                "size, colour order and value range cannot be guessed"
            )
        try:
            values = {name: json.loads(metadata[PREFIX + name]) for name in names}
            contract = cls(**values)
        except (ValueError, TypeError) as error:
            raise ModelFileError(
                f"{source} has an unreadable contract ({error}): export again"
            ) from None
        _require_known(contract, source)
        if contract.colour_order != "RGB" or contract.value_range != "[-1, 1]":
            raise ModelFileError(
                f"{source} expects {contract.colour_order} in {contract.value_range}, this server "
                "feeds RGB in [-1, 1]: export the model again"
            )
        return contract


def _require_known(contract: ModelContract, source: str) -> None:
    """Raise a ``ModelFileError`` for a value that is not of its field's kind."""
    for field in fields(contract):
        value, choices = getattr(contract, field.name), get_args(field.type)
        if field.type in (int, str, bool) and type(value) is not field.type:
            expected = field.type.__name__
        elif field.name in ("form", "precision") and value not in choices:
            expected = " or ".join(choices)
        else:
            continue
        raise ModelFileError(
            f"{source} has the {field.name} {value!r}, this program knows {expected}: export its "
            "checkpoint again with this version's  deblur export"
        )
