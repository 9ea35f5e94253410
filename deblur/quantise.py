"""Quantisation to int8: convolutions on 8-bit numbers, with ranges learnt from training pictures.

A quantised network stays an ordinary ONNX file with the same contract. Each convolution gets its
inputs and weights through QuantizeLinear and DequantizeLinear (QDQ), which providers fuse into
8-bit arithmetic. Weights have a scale for each output channel, activations one for each tensor
(Jacob et al. 2018, "Quantization and Training of Neural Networks", section 2.1).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from deblur.atomic import whole_file
from deblur.contract import INPUT, ModelContract
from deblur.data.pairs import Pairs
from deblur.errors import ModelFileError
from deblur.images import to_float
from deblur.progress import SILENT, Progress
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting
from deblur.tiling import TilePlan

#: Tiles that ranges are learnt from. Of a range only the extremes count, and few tiles show them.
CALIBRATION_TILES = 32
#: Mean difference of 8-bit levels beyond which a quantised network is broken, not merely coarse.
_BROKEN = 8.0


def quantise(
    model: Path, out: Path, tiles: Sequence[np.ndarray], progress: Progress = SILENT
) -> Path:
    """Write ``model`` with its convolutions in int8, checked, and only then put in place.

    The first and the last convolution stay in float: one sees the pixels, the other writes them,
    and both are narrow, so that they cost little time and would cost the most quality.

    Args:
        model: a float file with its contract.
        out: the file to write; its contract has ``precision="int8"``.
        tiles: ``[tile, tile, 3]`` uint8 of blurred training pictures, see ``calibration_tiles``.
            Never of those that quality is measured on.
        progress: shows the tiles seen.

    Raises:
        ModelFileError: ``model`` is quantised already, or the result does not load or answers
            nonsense; nothing is written then.
    """
    if not tiles:
        raise ModelFileError(
            f"{model} cannot be quantised without pictures: expected tiles of training pictures"
        )
    proto = onnx.load(model)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    contract = ModelContract.from_metadata(metadata, str(model))
    if contract.precision != "fp32":
        raise ModelFileError(
            f"{model} is in {contract.precision} already: name the file that it was made from"
        )
    with whole_file(out) as partial, progress.task("quantise", len(tiles), "tiles") as advance:

        def feeds() -> Iterator[dict[str, np.ndarray]]:
            for tile in tiles:
                yield {INPUT: tile[None] if contract.form == "uint8" else to_float(tile)}
                advance(1)

        with _no_advice():
            quantize_static(
                proto,
                partial,
                _Reader(feeds()),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=_outermost_convolutions(proto),
                per_channel=True,
                # On x86 unsigned by signed is the product that the instructions have.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        quantised = onnx.load(partial)
        del quantised.metadata_props[:]
        for key, value in replace(contract, precision="int8").to_metadata().items():
            quantised.metadata_props.add(key=key, value=value)
        onnx.save(quantised, partial)
        _check(model, partial, contract, tiles[0])
    return out


def calibration_tiles(
    pairs: Pairs, tile: int, count: int = CALIBRATION_TILES, progress: Progress = SILENT
) -> list[np.ndarray]:
    """Tiles of blurred pictures, spread over the set: ``[tile, tile, 3]`` uint8 each.

    Args:
        pairs: training pictures. Each gives at most one tile, from another place each time.
        tile: side in pixels; smaller pictures are mirrored, as when they are served.
        count: tiles at most.
        progress: shows the pictures read.
    """
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int))
    tiles = []
    with progress.task("read training pictures", len(chosen), "pictures") as advance:
        for number, index in enumerate(chosen):
            blurred, _ = pairs.read(int(index))
            height, width, _ = blurred.shape
            plan = TilePlan(height, width, tile, overlap=0)
            planes = plan.cut(blurred.transpose(2, 0, 1), (7919 * number) % len(plan))
            tiles.append(np.ascontiguousarray(planes.transpose(1, 2, 0)))
            advance(1)
    return tiles


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def _outermost_convolutions(proto: onnx.ModelProto) -> list[str]:
    names = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    return [*names[:1], *names[-1:]]


def _check(model: Path, quantised: Path, contract: ModelContract, tile: np.ndarray) -> None:
    """Raise if the quantised file does not load, or gives something altogether different."""
    # Settings are given, as one that lies beside the model would be of no concern here.
    before = Engine(model, setting=Setting.of(contract))
    after = Engine(quantised, setting=Setting.of(replace(contract, precision="int8")))
    # Clamped, as whoever gets the picture sees it.
    ours, theirs = (np.clip(e.predict(to_float(tile)), -1.0, 1.0) for e in (after, before))
    difference = float(np.abs(ours - theirs).mean()) * 127.5
    if not difference <= _BROKEN:
        raise ModelFileError(
            f"quantised, {model} differs by {difference:.1f} of 255 levels on average (allowed "
            f"{_BROKEN:g}): nothing was written; serve it in fp32 or bf16"
        )


@contextmanager
def _no_advice() -> Iterator[None]:
    """Without what onnxruntime logs for people who call it by hand, at the root logger."""
    root = logging.getLogger()

    def unlike_advice(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root.addFilter(unlike_advice)
    try:
        yield
    finally:
        root.removeFilter(unlike_advice)
