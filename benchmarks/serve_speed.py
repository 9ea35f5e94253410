"""Seconds for a picture in the tuned setting, against torch and against onnxruntime as they come.

Everything is timed in turns in one run, so that noise of the machine hits all alike: torch eager
in fp32, onnxruntime's CPU provider with its defaults, and then one step after the other, each
added to those before: provider, precision, geometry. All but the geometry's step use tiles of 256
with overlap 64, one tile after the other.

Without --model the network is made on the spot, with random weights that are not zero. Then there
is nothing to lose in PSNR against a sharp picture, and psnr_loss_db is null unless --data is given.
How far the tuned picture is from the fp32 one (psnr_to_fp32_db) is always measured, without --data
on the photographs that come with scikit-image.

python benchmarks/serve_speed.py --size 2048
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from deblur.contract import ModelContract
from deblur.cpus import usable_cpus
from deblur.data.pairs import open_pairs
from deblur.device import choose_numerics
from deblur.evaluation import Predict, evaluate
from deblur.export import export_network
from deblur.images import to_float, to_uint8
from deblur.metrics import psnr
from deblur.models import DeblurUNet
from deblur.models.inference import tiled_predictor
from deblur.quantise import calibration_tiles, quantise
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting, read_setting
from deblur.training.checkpoint import load_checkpoint
from deblur.tuning.machine import this_machine
from deblur.tuning.search import timing_picture

NAIVE = Setting(tile=256, overlap=64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="side of the picture in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="times each is timed")
    parser.add_argument("--base-ch", type=int, default=32, help="width of the random network")
    parser.add_argument("--model", type=Path, help="checkpoint of the network to run instead")
    parser.add_argument("--data", help="pairs: val is scored, train is what int8 learns on")
    parser.add_argument("--pictures", type=int, default=6, help="pictures scored at most")
    parser.add_argument("--setting", type=Path, help="model file beside which tuning left its")
    parser.add_argument("--provider", default="openvino", help="without --setting: cpu, openvino")
    parser.add_argument("--precision", default="bf16", help="without --setting: fp32, bf16, int8")
    parser.add_argument("--tile", type=int, default=256, help="without --setting")
    parser.add_argument("--overlap", type=int, default=32, help="without --setting")
    args = parser.parse_args()

    torch.set_num_threads(usable_cpus())
    tuned = (read_setting(args.setting) if args.setting else None) or Setting(
        provider=args.provider, precision=args.precision, tile=args.tile, overlap=args.overlap
    )
    network, contract = network_of(args.model, args.base_ch)
    with tempfile.TemporaryDirectory() as folder:
        file = export_network(network, contract, Path(folder) / "model.onnx").path
        if tuned.precision == "int8":
            quantise(file, file.with_suffix(".int8.onnx"), tiles_of(args.data, tuned.tile))
        engines = {name: Engine(file, setting=setting) for name, setting in steps(tuned).items()}
        contenders: dict[str, Predict] = {
            "torch_eager": tiled_predictor(
                network, choose_numerics("fp32", "cpu"), NAIVE.tile, NAIVE.overlap, batch=1
            ),
            **{name: engine.predict for name, engine in engines.items()},
        }
        picture = timing_picture(photographs()[0], args.size)
        seconds = race(contenders, to_float(picture), args.rounds)
        fp32, fast = engines["ort_cpu"].predict, engines["tuned"].predict
        loss, scored = psnr_loss(fp32, fast, args.data, contract.subset, args.pictures)
        nearness = [psnr_between(fp32, fast, p) for p in photographs()[: args.pictures]]
    best = seconds["tuned"]
    names = list(seconds)
    print(json.dumps({
        "speedup_vs_torch_eager": round(seconds["torch_eager"] / best, 2),
        "speedup_vs_ort_cpu": round(seconds["ort_cpu"] / best, 2),
        "psnr_loss_db": None if loss is None else round(loss, 4),
        "psnr_loss_measured_on": scored,
        "psnr_to_fp32_db": round(float(np.mean(nearness)), 2),
        "seconds_2048": round(best, 3) if args.size == 2048 else None,
        "size": args.size,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "step_speedup": {
            name: round(seconds[before] / seconds[name], 2)
            for before, name in pairwise(names)
        },
        "setting": tuned.model_dump(), "base_ch": contract.base_ch,
        "weights": "trained" if args.model else "random", "rounds": args.rounds,
        "cpu": this_machine().cpu, "cpus": usable_cpus(),
    }))  # fmt: skip


def network_of(checkpoint: Path | None, base_ch: int) -> tuple[torch.nn.Module, ModelContract]:
    """The network of a checkpoint, or a random one, and its contract."""
    if checkpoint is not None:
        from deblur.export import contract_of

        loaded = load_checkpoint(checkpoint)
        return loaded.network(), contract_of(loaded, {}, "none")
    torch.manual_seed(0)
    network = DeblurUNet(base_ch=base_ch)
    # A zero last layer would let a clever runtime skip the rest.
    torch.nn.init.normal_(network.final.weight, std=0.01)
    contract = ModelContract(
        architecture="unet", base_ch=base_ch, tile=NAIVE.tile, overlap=NAIVE.overlap,
        train_crop=256, metrics={}, data_kind="none", subset="blur", data_digest="none",
        config_digest="none", code_revision="none",
    )  # fmt: skip
    return network.eval(), contract


def steps(tuned: Setting) -> dict[str, Setting]:
    """From onnxruntime as it comes to the tuned setting, one change after the other."""
    provider = NAIVE.model_copy(update={"provider": tuned.provider})
    precision = provider.model_copy(update={"precision": tuned.precision})
    return {"ort_cpu": NAIVE, "provider": provider, "precision": precision, "tuned": tuned}


def race(
    contenders: dict[str, Callable[[np.ndarray], np.ndarray]], planes: np.ndarray, rounds: int
) -> dict[str, float]:
    """Median seconds of each for the picture, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for predict in contenders.values():
        predict(planes[..., :256, :256])  # first allocations
    for _ in range(rounds):
        for name, predict in contenders.items():
            started = time.perf_counter()
            predict(planes)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def psnr_loss(
    fp32: Predict, fast: Predict, data: str | None, subset: str, pictures: int
) -> tuple[float | None, str]:
    """dB lost against the sharp pictures of ``val``, and what that was measured on."""
    if data is None:
        return None, "nothing: give --data"
    pairs = open_pairs(data, "val", "blur_gamma" if subset == "blur_gamma" else "blur")
    chosen = sorted({int(i) for i in np.linspace(0, len(pairs) - 1, min(pictures, len(pairs)))})
    before, after = (evaluate(predict, pairs, indices=chosen).psnr for predict in (fp32, fast))
    return before - after, f"{len(chosen)} validation pictures of {data}"


def psnr_between(fp32: Predict, fast: Predict, picture: np.ndarray) -> float:
    """PSNR of the tuned result, the fp32 result taken for the truth."""
    planes = to_float(picture)
    return psnr(to_uint8(fast(planes)), to_uint8(fp32(planes)))


def photographs() -> list[np.ndarray]:
    """The photographs that come with scikit-image, ``[H, W, 3]`` uint8."""
    from skimage import data

    return [data.astronaut(), data.coffee(), data.chelsea()]


def tiles_of(data: str | None, tile: int) -> list[np.ndarray]:
    """What the quantised network learns its ranges on."""
    if data is not None:
        return calibration_tiles(open_pairs(data, "train"), tile)
    return [timing_picture(p, tile) for p in photographs()]


if __name__ == "__main__":
    main()
