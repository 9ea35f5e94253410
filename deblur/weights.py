"""A network's weights as safetensors, with the contract that says which network they belong to.

Any program that reads safetensors (github.com/huggingface/safetensors) gets the tensors without
running anything of the file. ``load_safetensors`` gives the network itself.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from deblur.contract import ModelContract
from deblur.errors import ModelFileError
from deblur.models import build_network, word_of


def save_safetensors(model: nn.Module, contract: ModelContract, path: Path) -> None:
    """Write the weights of ``model``, with the keys and values of its contract as metadata."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    # Not by save_file, whose files no other user may read.
    path.write_bytes(save(weights, contract.to_metadata()))


def load_safetensors(path: Path) -> nn.Module:
    """The network of a file written by ``deblur export``, on the CPU, in evaluation mode.

    Raises:
        ModelFileError: there is no such file, it is damaged, or not of a network of ours.
    """
    if not path.is_file():
        raise ModelFileError(
            f"there is no weights file {path}: write one with  deblur export, which puts it beside "
            "the ONNX file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied, because the tensors would be pages of the file, which may be replaced.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} is damaged or not a safetensors file ({error}): expected one written by  "
            "deblur export; export its checkpoint again"
        ) from None
    contract = ModelContract.from_metadata(metadata, str(path))
    try:
        # Without memory of its own until the weights are there, so a wrong width costs nothing.
        with torch.device("meta"):
            word = word_of(contract.architecture)
            model = build_network(word, contract.base_ch, contract.residual)
        if strange := {value.dtype for value in weights.values()} - {torch.float32}:
            raise ValueError(f"weights of {', '.join(map(str, strange))}, not torch.float32")
        model.load_state_dict(weights, assign=True)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(
            f"{path} does not hold the weights of its {contract.architecture} with base_ch "
            f"{contract.base_ch} ({reason}): export its checkpoint again"
        ) from None
    return model.eval()
