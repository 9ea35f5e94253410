"""Crops per second from prepared shards against those from PNG files, side by side.

The PNG path is the common one: a DataLoader whose processes decode both 720p pictures of a crop's
pair with Pillow, cut the crop out, turn and normalise it. The prepared path copies the crop out of
a memory map, in as many threads. Both give the same crops. For fairness the PNG path is measured
with threads, too, and its better figure counts.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deblur.cpus import usable_cpus
from deblur.data.crops import Crop, EpochBatches
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropFeed, feed, to_device
from deblur.data.prepare import prepare
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, gratings, lettering, masonry

HEIGHT, WIDTH = 720, 1280
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=32, help="720p pairs to make")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each measurement")
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="threads, processes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, prepared = Path(folder) / "png", Path(folder) / "prepared"
        make_pairs(root, args.pairs)
        prepare(root, prepared)
        files = [p.stat().st_size for p in root.rglob("*.png")]
        png = DeblurDataset(root, patch_size=args.patch_size)
        raw = DeblurDataset(prepared, patch_size=args.patch_size)
        # An even race: one after the other twice, the machine may be busier at one time.
        rates: dict[str, list[float]] = {"png": [], "prepared": [], "normalised": []}
        for _ in range(2):
            rates["png"].append(max(png_rate(png, args), feed_rate(png, args, normalise=False)))
            rates["prepared"].append(feed_rate(raw, args, normalise=False))
            rates["normalised"].append(feed_rate(raw, args, normalise=True))
        same = all(
            np.array_equal(a, b)
            for n in range(8)
            for a, b in zip(png.crop(Crop(3, n)), raw.crop(Crop(3, n)), strict=True)
        )
    best = {name: max(values) for name, values in rates.items()}
    print(
        json.dumps(
            {
                "ratio_vs_png": round(best["prepared"] / best["png"], 1),
                "pairs_per_s": round(best["prepared"]),
                "pairs_per_s_png": round(best["png"], 2),
                "pairs_per_s_normalised_on_cpu": round(best["normalised"]),
                "workers": args.workers,
                "cpus": usable_cpus(),
                "batch_size": args.batch_size,
                "patch_size": args.patch_size,
                "png_megabytes": round(float(np.mean(files)) / 1e6, 2),
                "same_crops": same,
            }
        )
    )


def make_pairs(root: Path, count: int) -> None:
    """720p pairs of drawn scenes with grain, as detailed as photographs of that size."""
    draws = (discs, masonry, lettering, gratings)
    for number in range(count):
        rng = generator(0, Stream.SCENE, number)
        drawn = draws[number % 4](rng).resize((WIDTH + 64, HEIGHT + 64), Image.Resampling.BICUBIC)
        grain = rng.normal(0.0, 4.0, (HEIGHT + 64, WIDTH + 64, 3))
        scene = np.clip(np.asarray(drawn) + grain, 0, 255).astype(np.uint8)
        blurred, sharp = motion_blur(scene, random_camera_path(rng, 12.0, 0.0))
        for kind, pixels in (("blur", blurred), ("sharp", sharp)):
            folder = root / "train" / f"scene{number % 4}" / kind
            folder.mkdir(parents=True, exist_ok=True)
            picture = np.rint(pixels[:HEIGHT, :WIDTH].clip(0, 255)).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{number:06d}.png")


def png_rate(dataset: DeblurDataset, args: argparse.Namespace) -> float:
    """Pairs per second of the common path, with processes."""
    loader = DataLoader(
        dataset,
        batch_sampler=EpochBatches(len(dataset), args.batch_size, 0, range(10**6)),
        num_workers=args.workers,
        multiprocessing_context="spawn" if args.workers else None,
    )
    return _rate(iter(loader), lambda batch: len(batch[0]), args.seconds)


def feed_rate(dataset: DeblurDataset, args: argparse.Namespace, normalise: bool) -> float:
    """Pairs per second of raw crops, with or without the device's part done on the CPU."""
    batches = EpochBatches(len(dataset), args.batch_size, 0, range(10**6))

    def count(batch: object) -> int:
        if normalise:
            to_device(batch, CPU)  # type: ignore[arg-type]
        return batch.pixels.shape[1]  # type: ignore[attr-defined]

    return _rate(feed(CropFeed(dataset), batches, args.workers, CPU), count, args.seconds)


def _rate(stream, count, seconds: float) -> float:  # type: ignore[no-untyped-def]
    for _ in range(4):  # the loader processes start and fill their queues
        next(stream)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += count(next(stream))
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
