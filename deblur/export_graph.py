"""The network as an ONNX graph, in one of two forms.

``float`` takes and gives the planes that the network computes with. ``uint8`` takes and gives the
pixels of a picture: the same graph with the conversion of ``deblur.images`` at both ends.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.errors import ModelFileError

#: From 21 on group normalisation is one operator, but onnxruntime's CPU provider expands it into a
#: dozen: a 256 tile of the base-32 U-Net took 369 ms of CPU time instead of 308 (1.31, 2026-11-22).
#: Over a whole picture of 1100x1500 it also loses more digits: 3.3e-4 from torch instead of 1.0e-4.
#: With OpenVINO both take the same time. ``benchmarks/export_opsets.py`` measures it.
OPSET = 20

_PLANES_IN, _PLANES_OUT = "blurred_planes", "restored_planes"


def onnx_graph(model: nn.Module, contract: ModelContract, opset: int = OPSET) -> onnx.ModelProto:
    """The network in the contract's form, with the contract as metadata.

    Batch, height and width are dynamic, from 1. ``float``: ``[N, 3, H, W]`` float32 in [-1, 1] to
    the same, not clamped. ``uint8``: ``[N, H, W, 3]`` uint8 to the same.

    Args:
        model: on the CPU.
        contract: what the file is to say about itself; its ``form`` chooses the form.
        opset: version of ONNX's default operators.

    Raises:
        ModelFileError: torch gave no graph.
    """
    proto = _planes_graph(model, opset)
    if contract.form == "uint8":
        take_pixels(proto.graph)
    for key, value in contract.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _planes_graph(model: nn.Module, opset: int) -> onnx.ModelProto:
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
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelFileError("torch.onnx.export gave nothing: export with another version of torch")
    proto = program.model_proto
    # Where in torch each node is from: with paths of this machine and addresses in its memory,
    # which would make another file of the same network each time.
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    return proto


def take_pixels(graph: onnx.GraphProto) -> None:
    """Turn the float form into the uint8 form, by the steps of ``to_float`` and ``to_uint8``."""
    for node in graph.node:
        node.input[:] = [_PLANES_IN if name == INPUT else name for name in node.input]
        node.output[:] = [_PLANES_OUT if name == OUTPUT else name for name in node.output]
    for number in (0.0, 1.0, 127.5, 255.0):
        value = np.array(number, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(value, f"pixel_{number}"))
    # The turning is done on bytes, which are a quarter of the floats.
    before = _chain(INPUT, _PLANES_IN, [
        ("Transpose", (), {"perm": (0, 3, 1, 2)}), ("Cast", (), {"to": TensorProto.FLOAT}),
        ("Div", ("pixel_127.5",), {}), ("Sub", ("pixel_1.0",), {}),
    ])  # fmt: skip
    # Round takes halves to the even neighbour, as NumPy's rint does.
    after = _chain(_PLANES_OUT, OUTPUT, [
        ("Add", ("pixel_1.0",), {}), ("Mul", ("pixel_127.5",), {}),
        ("Clip", ("pixel_0.0", "pixel_255.0"), {}), ("Round", (), {}),
        ("Cast", (), {"to": TensorProto.UINT8}), ("Transpose", (), {"perm": (0, 2, 3, 1)}),
    ])  # fmt: skip
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    shape = ("batch", "height", "width", 3)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.UINT8, shape))


def _chain(
    first: str, last: str, steps: list[tuple[str, tuple[str, ...], dict]]
) -> list[onnx.NodeProto]:
    """Nodes of one operator each (its name, further inputs, attributes), one after the other."""
    names = [first, *(f"{last}_{number}" for number in range(1, len(steps))), last]
    return [
        helper.make_node(operator, [source, *further], [target], name=target, **attributes)
        for (operator, further, attributes), (source, target) in zip(
            steps, pairwise(names), strict=True
        )
    ]


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
