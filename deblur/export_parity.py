"""How far an ONNX file is from torch, on noise and on photographs, at sizes even and odd."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from deblur.contract import INPUT, OUTPUT, Form
from deblur.cpus import usable_cpus
from deblur.data.pairs import Pairs
from deblur.errors import SetupError
from deblur.images import to_float

PARITY_SIZES = ((1, 1), (33, 250), (97, 131), (256, 256))
PARITY_LIMIT = 1e-4


def parity_pictures(photographs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """What the check runs on: noise and the middle of each photograph at each size.

    Args:
        photographs: ``[H, W, 3]`` uint8 by name, as those that ``some_of`` takes from a test split.
            ``None`` takes two free photographs that scikit-image ships, or a drawn scene where it
            is not installed.

    Returns:
        ``[H, W, 3]`` uint8 by name and size, as ``coffee 97x131``. A photograph that is smaller
        than a size is cut to what it has.
    """
    rng = np.random.default_rng(0)
    sources = _free_photographs() if photographs is None else photographs
    pictures = {}
    for height, width in PARITY_SIZES:
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for name, source in {"noise": noise, **sources}.items():
            crop = _middle(source, height, width)
            pictures[f"{name} {crop.shape[0]}x{crop.shape[1]}"] = crop
    return pictures


def some_of(pairs: Pairs, count: int = 2) -> dict[str, np.ndarray]:
    """Up to ``count`` blurred pictures spread over a data set: ``[H, W, 3]`` uint8 by name."""
    chosen = sorted({index * len(pairs) // count for index in range(count)})
    return {
        f"{pairs.scenes[index]}/{pairs.names[index]}": pairs.read(index)[0]
        for index in chosen
        if index < len(pairs)
    }


def measure_parity(
    model: nn.Module, path: Path, form: Form, pictures: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Largest absolute difference between torch and onnxruntime, by the pictures' names.

    In [-1, 1], the unit of the network, for both forms. The ``uint8`` form's result is rounded: its
    difference is what lies beyond half a level, so 0 means the nearest level to torch's result, and
    1e-4 means that a value within 1e-4 of the middle between two levels went the other way.

    Args:
        model: on the CPU, in evaluation mode.
        path: the ONNX file.
        form: of the file.
        pictures: ``[H, W, 3]`` uint8.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return {
        name: _difference(model, session, form, pixels) for name, pixels in pictures.items()
    }  # fmt: skip


def _difference(
    model: nn.Module, session: onnxruntime.InferenceSession, form: Form, pixels: np.ndarray
) -> float:
    planes = to_float(pixels)
    with torch.inference_mode():
        expected = model(torch.from_numpy(planes)).numpy()
    if form == "float":
        result = session.run([OUTPUT], {INPUT: planes})[0]
        return float(np.abs(result - expected).max())
    levels = session.run([OUTPUT], {INPUT: pixels[None]})[0].transpose(0, 3, 1, 2)
    scaled = ((expected.astype(np.float64) + 1.0) * 127.5).clip(0.0, 255.0)
    beyond = np.abs(levels - scaled) - 0.5
    return float(beyond.max().clip(0.0)) / 127.5


def _free_photographs() -> dict[str, np.ndarray]:
    from deblur.data.synthesis.scenes import DRAWINGS, PHOTOGRAPHS

    try:
        return {p.name: p.open() for p in PHOTOGRAPHS if p.split == "test"}
    except SetupError:
        return {d.name: d.open(0) for d in DRAWINGS if d.split == "test"}


def _middle(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    top = max(picture.shape[0] - height, 0) // 2
    left = max(picture.shape[1] - width, 0) // 2
    return picture[top : top + height, left : left + width]
