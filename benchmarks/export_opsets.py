"""Milliseconds a tile in onnxruntime on this CPU, by the opset that a network is exported with.

python benchmarks/export_opsets.py --base-ch 32 --tile 256
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.cpus import usable_cpus
from deblur.export_graph import OPSET, onnx_graph
from deblur.export_parity import measure_parity, parity_pictures
from deblur.models import WORDS, build_network, traits

OPSETS = (18, 20, 21, 22, 23)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=WORDS, default=WORDS, help="which ones")
    parser.add_argument("--opsets", nargs="+", type=int, default=OPSETS, help="which ones")
    parser.add_argument("--base-ch", type=int, default=32, help="width of the networks")
    parser.add_argument("--tile", type=int, default=256, help="side of the tile in pixels")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="of onnxruntime")
    parser.add_argument("--rounds", type=int, default=15, help="tiles timed of each file")
    args = parser.parse_args()

    torch.set_num_threads(usable_cpus())
    table = Table("network", "opset", "ms a tile", "CPU ms", "from torch", "nodes", "note")
    results: dict[str, dict[int, dict]] = {}
    with TemporaryDirectory() as folder:
        for word in args.networks:
            results[word] = measure(word, args, Path(folder))
            for opset, found in results[word].items():
                table.add_row(
                    word, f"{opset}{' (ours)' if opset == OPSET else ''}",
                    *(str(found.get(k, "")) for k in ("ms", "cpu_ms", "parity", "nodes")),
                    found.get("failed", ""),
                )  # fmt: skip
    Console().print(table)
    print(json.dumps({
        "base_ch": args.base_ch, "tile": args.tile, "threads": args.threads,
        "rounds": args.rounds, "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__, "networks": results,
    }))  # fmt: skip


def measure(word: str, args: argparse.Namespace, folder: Path) -> dict[int, dict]:
    """Figures by opset: medians over the files taken in turns, so that noise hits all alike.

    CPU milliseconds are those of the process, which neighbours disturb less; with several threads
    they include their waiting for one another.
    """
    model = a_network(word, args.base_ch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    found: dict[int, dict] = {}
    sessions: dict[int, onnxruntime.InferenceSession] = {}
    for opset in args.opsets:
        path = folder / f"{word}-{opset}.onnx"
        try:
            onnx.save(onnx_graph(model, a_contract(word, args), opset), path)
            sessions[opset] = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # torch and onnxruntime have a dozen classes for "not supported"
            found[opset] = {"failed": str(error).strip().splitlines()[0][:100]}
            continue
        proto = onnx.load(path)
        parity = max(measure_parity(model, path, "float", parity_pictures()).values())
        written = next(o.version for o in proto.opset_import if o.domain == "")
        found[opset] = {"parity": float(f"{parity:.1e}"), "nodes": len(proto.graph.node)}
        if written != opset:
            # torch leaves a graph as it is where its operators have no form in the opset asked for.
            found[opset]["failed"] = f"opset {written} was written"
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, args.tile, args.tile))
    tile = picture.astype(np.float32)
    times: dict[int, list[tuple[float, float]]] = {opset: [] for opset in sessions}
    for number in range(args.rounds + 2):
        for opset, session in sessions.items():
            started = time.perf_counter(), time.process_time()
            session.run([OUTPUT], {INPUT: tile})
            ended = time.perf_counter(), time.process_time()
            if number >= 2:  # the first rounds warm up
                times[opset].append((ended[0] - started[0], ended[1] - started[1]))
    for opset, taken in times.items():
        wall, cpu = (
            round(1000 * statistics.median(column), 1) for column in zip(*taken, strict=True)
        )
        found[opset] |= {"ms": wall, "cpu_ms": cpu}
    return found


def a_network(word: str, base_ch: int) -> nn.Module:
    """Random weights, none at a neutral value that a clever runtime could skip."""
    torch.manual_seed(0)
    model = build_network(word, base_ch, True).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.01)
    return model


def a_contract(word: str, args: argparse.Namespace) -> ModelContract:
    kind = traits(word)
    return ModelContract(
        architecture=kind.name, base_ch=args.base_ch, tile=args.tile, overlap=0,
        train_crop=args.tile, metrics={}, data_kind="none", subset="blur", data_digest="none",
        config_digest="none", code_revision="none", norm=kind.norm, tiling=kind.tiling,
    )  # fmt: skip


if __name__ == "__main__":
    main()
