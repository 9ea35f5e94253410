"""Crops per second of our training against a plain loop of the same network, side by side.

python benchmarks/train_throughput.py --base-ch 32 --patch-size 256

Ours is what `deblur train` does with the recipe `gopro`: prepared shards read ahead by threads,
automatic precision, channels last, clipping and averaged weights, on a GPU torch.compile if it
pays over a training on GoPro. The plain loop is the one that everybody writes first: Pillow decodes
whole PNG pictures in a DataLoader, crops, turns, ToTensor, Normalize; float32, torch's own
GroupNorm, AdamW as it comes, loss.item() in every step.

Each runs twice, in turns and in a process of its own, and its faster run counts. Of the plain
loop's two, one loads without processes while waiting threads spin, torch's default, and one has as
many loader processes as CPUs while waiting threads sleep, as they do in ours. Both loops get the
same weights and the same crops in the same order, so their losses must agree.

Memory on a CPU is that of the training process alone, without the plain loop's loader processes.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from data_feed import make_pairs  # this folder comes first in the path of its scripts
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from deblur.cpus import usable_cpus
from deblur.data.crops import Crop, EpochBatches
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropBatch, CropFeed, feed
from deblur.data.listing import find_pairs
from deblur.data.prepare import prepare
from deblur.device import Numerics, choose_numerics, peak_memory_gb
from deblur.models import build_network
from deblur.models.complexity import macs
from deblur.models.normalisation import GroupNorm
from deblur.training.compiling import compile_where_it_pays
from deblur.training.config import TrainConfig, make_config
from deblur.training.losses import CharbonnierLoss
from deblur.training.plan import make_plan
from deblur.training.readings import Meter, Readings
from deblur.training.run import TrainingRun

GOPRO_PICTURES = 2103
#: Relative difference of the mean losses that rounding and clipping may come to: up to 0.03 was
#: seen. Ten times the learning rate makes 0.1, a loop that does not learn 0.5.
LOOSE = 0.05
SLEEP = {"GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base-ch", type=int, default=32, help="width of the network")
    parser.add_argument("--batch-size", type=int, default=32 if cuda else 4)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=16, help="720p pairs to make")
    parser.add_argument(
        "--seconds", type=float, default=20.0 if cuda else 10.0, help="for each of four runs"
    )
    parser.add_argument(
        "--first-steps", type=int, default=6, help="whose losses are compared; they warm up, too"
    )
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="threads, processes")
    parser.add_argument("--only", choices=list(LOOPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_pairs(Path(folder) / "png", args.pairs)
        prepare(Path(folder) / "png", Path(folder) / "prepared")
        ours, plain = [], []
        for workers, waiting in ((0, {}), (args.workers, SLEEP)):
            ours.append(in_a_process("ours", folder, args.workers, SLEEP))
            plain.append(in_a_process("plain", folder, workers, waiting))
    print(json.dumps(report(args, fastest(ours), fastest(plain))))


def in_a_process(loop: str, folder: str, workers: int, waiting: dict[str, str]) -> dict[str, Any]:
    """What ``measure`` finds in a process of its own: peak memory never falls in one."""
    clean = {k: v for k, v in os.environ.items() if k not in SLEEP}
    options = ["--only", loop, "--folder", folder, "--workers", str(workers)]
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], *options],
        env={**clean, **waiting}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def fastest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return max(runs, key=lambda run: run["crops_per_s"])


def report(args: argparse.Namespace, ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """The figures of both, side by side."""
    numerics = choose_numerics()
    matrix = matrix_tflops(numerics)
    gpu = numerics.device.type == "cuda"
    network = build_network("unet", args.base_ch, residual=False)
    # Forward, and twice as much backward: the gradients of the input and of the weights.
    tera_per_crop = 3 * 2 * macs(network, args.patch_size) / 1e12
    model_tflops = tera_per_crop * ours["crops_per_s"]
    loss, plain_loss = statistics.fmean(ours["losses"]), statistics.fmean(plain["losses"])
    return {
        "ratio_vs_plain": round(ours["crops_per_s"] / plain["crops_per_s"], 2),
        "crops_per_s": round(ours["crops_per_s"], 2),
        "crops_per_s_plain": round(plain["crops_per_s"], 2),
        "data_wait_share": round(ours["data_wait_share"], 4),
        "data_wait_share_plain": round(plain["data_wait_share"], 4),
        "peak_memory_gb": round(ours["peak_memory_gb"], 2),
        "peak_memory_gb_plain": round(plain["peak_memory_gb"], 2),
        "step_ms": round(ours["step_ms"], 1),
        "step_ms_plain": round(plain["step_ms"], 1),
        "model_tflops": round(model_tflops, 3),
        "matrix_tflops_measured": round(matrix, 3),
        "share_of_matrix_rate": round(model_tflops / matrix, 3),
        "losses_agree": math.isclose(loss, plain_loss, rel_tol=LOOSE),
        "mean_loss": round(loss, 4),
        "mean_loss_plain": round(plain_loss, 4),
        "precision": ours["precision"],
        "compiled": ours["compiled"],
        "device": torch.cuda.get_device_name(numerics.device) if gpu else "cpu",
        "cpus": usable_cpus(),
        "workers": ours["workers"],
        "workers_plain": plain["workers"],
        "base_ch": args.base_ch,
        "batch_size": args.batch_size,
        "patch_size": args.patch_size,
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Losses of the first steps of a loop, then the speed of those that follow."""
    # Not residual, as in the user's document: such a network begins far off, and a loop that does
    # not learn is seen at once.
    config = make_config(
        "gopro",
        {
            "base_ch": args.base_ch, "batch_size": args.batch_size, "patch_size": args.patch_size,
            "residual": False, "workers": args.workers,
        },
    )  # fmt: skip
    loop = LOOPS[args.only](config, args.folder)
    device = loop.numerics.device
    losses: list[float] = []
    for _ in range(args.first_steps):
        losses += loop.step(next(loop.batches))
    losses += loop.finish()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started, meter = time.perf_counter(), Meter()
    while time.perf_counter() - started < args.seconds:
        asked = time.perf_counter()
        batch = next(loop.batches)
        waited = time.perf_counter() - asked
        for _ in loop.step(batch):
            pass
        meter.add(waited, args.batch_size)
    for _ in loop.finish():
        pass
    speed = meter.read()
    return {
        "crops_per_s": speed["crops_per_s"],
        "data_wait_share": speed["data_time"] / speed["step_time"],
        "step_ms": 1e3 * speed["step_time"],
        "peak_memory_gb": peak_memory_gb(device),
        "losses": losses,
        "precision": loop.numerics.name,
        "compiled": loop.compiled,
        "workers": args.workers,
    }


class Ours:
    """What ``deblur.training.loop`` does between two validations."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.numerics = choose_numerics(config.precision)
        self.run = TrainingRun(config, "benchmark", self.numerics)
        plan = make_plan(config, lambda _: GOPRO_PICTURES * config.crops_per_image)
        compile_where_it_pays(self.run, plan)
        self.compiled = self.run.compiled
        self.readings = Readings(self.numerics.device)
        dataset = DeblurDataset(
            folder / "prepared",
            patch_size=config.patch_size,
            seed=config.seed,
            crops_per_image=config.crops_per_image,
        )
        batches = even_batches(len(dataset), config)
        self.batches = feed(CropFeed(dataset), batches, config.workers, self.numerics.device)

    def step(self, batch: CropBatch) -> Iterator[float]:
        """Train on a batch; yields the losses that have become known."""
        values = self.run.train_step(batch, self.run.config.learning_rate)
        for reading in self.readings.put(self.run.step, values):
            yield reading.loss

    def finish(self) -> Iterator[float]:
        """Wait for the device; yields the losses that are left."""
        for reading in self.readings.drain():
            yield reading.loss


class Plain:
    """The loop of the user's document."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.numerics = choose_numerics("fp32")
        self.compiled = False
        torch.manual_seed(config.seed)
        self.model = stock_norms(build_network("unet", config.base_ch, config.residual))
        self.model.to(self.numerics.device)
        self.criterion = CharbonnierLoss(config.loss_eps)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        dataset = PlainCrops(folder / "png", config)
        batches = even_batches(len(dataset), config)
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=config.workers)
        self.batches = iter(loader)

    def step(self, batch: tuple[Tensor, Tensor]) -> Iterator[float]:
        self.model.train()
        blurred, sharp = (crops.to(self.numerics.device) for crops in batch)
        self.optimizer.zero_grad()
        restored = self.model(blurred)
        loss = self.criterion(restored, sharp)
        loss.backward()
        self.optimizer.step()
        yield loss.item()

    def finish(self) -> Iterator[float]:
        if self.numerics.device.type == "cuda":
            torch.cuda.synchronize(self.numerics.device)
        return iter(())


LOOPS: dict[str, type[Ours] | type[Plain]] = {"ours": Ours, "plain": Plain}


class PlainCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops cut out of whole decoded pictures and turned with Pillow, at our places."""

    def __init__(self, root: Path, config: TrainConfig) -> None:
        self.pairs = find_pairs(root, "train")
        self.places = DeblurDataset(
            root,
            patch_size=config.patch_size,
            seed=config.seed,
            crops_per_image=config.crops_per_image,
        )
        self.normalised = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, crop: Crop) -> tuple[Tensor, Tensor]:
        picture, (rows, columns), turn = self.places.place(crop)
        pair, halves = self.pairs[picture], []
        for path in (pair.blur, pair.sharp):
            whole = Image.open(str(path)).convert("RGB")
            patch = whole.crop((columns.start, rows.start, columns.stop, rows.stop))
            if turn.transpose:
                patch = patch.transpose(Image.Transpose.TRANSPOSE)
            if turn.v_flip:
                patch = patch.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            if turn.h_flip:
                patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            halves.append(self.normalised(patch))
        return halves[0], halves[1]


def even_batches(crops: int, config: TrainConfig) -> EpochBatches:
    """Endless batches of one size: a smaller last one would be compiled while time is taken."""
    even = crops // config.batch_size * config.batch_size
    return EpochBatches(even, config.batch_size, config.seed, range(10**6))


def stock_norms(network: nn.Module) -> nn.Module:
    """The network with torch's own GroupNorm in place of ours."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, GroupNorm):
                setattr(module, name, nn.GroupNorm(child.num_groups, child.num_channels))
    return network


def matrix_tflops(numerics: Numerics) -> float:
    """Tera floating-point operations a second of a large matrix product, the best of a few."""
    gpu = numerics.device.type == "cuda"
    size, products = (8192, 10) if gpu else (4096, 1)
    left, right = (
        torch.randn(size, size, device=numerics.device).to(numerics.dtype) for _ in range(2)
    )
    times = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(products):
            left @ right
        if gpu:
            torch.cuda.synchronize(numerics.device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 * products / min(times[1:]) / 1e12


if __name__ == "__main__":
    main()
