"""How right are the measures of ``deblur.inputs``, and what do they cost?

Photographs of scikit-image and scikit-learn are blurred along straight and shaken paths of known
extent, noise of known strength is added, and what is measured is compared with what was done.

    python benchmarks/input_measures.py [--side 400]
"""

import json
import statistics
import time
from typing import Annotated

import numpy as np
import typer

from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import CameraPath, motion_blur, random_camera_path
from deblur.data.synthesis.scenes import PHOTOGRAPHS
from deblur.inputs import measure

LENGTHS = (0.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)
SIGMAS = (0.0, 2.0, 6.0, 12.0)


def main(
    side: Annotated[int, typer.Option(help="Longest side of the photographs in pixels.")] = 400,
) -> None:
    """Print a table of both errors, and everything as JSON in the last line."""
    sharp = {p.name: np.asarray(p.open())[:side, :side] for p in PHOTOGRAPHS}
    extents: dict[float, list[tuple[str, float, float]]] = {length: [] for length in LENGTHS}
    noises: dict[float, list[float]] = {sigma: [] for sigma in SIGMAS}
    sharpnesses: dict[float, list[float]] = {length: [] for length in LENGTHS}
    rng = np.random.default_rng(0)
    for number, (name, pixels) in enumerate(sharp.items()):
        for length in LENGTHS:
            for wobble in (0.0, 0.2) if length else (0.0,):
                path = random_camera_path(
                    generator(number, Stream.BLUR, int(length), int(10 * wobble)),
                    length, 0.0, wobble=wobble,
                )  # fmt: skip
                blurred = motion_blur(pixels, path)[0] if length else pixels.astype(float)
                found = measure(pictured(blurred))
                extents[length].append((name, extent(path), found.blur_px))
                sharpnesses[length].append(found.sharpness)
                if length == 8.0:
                    for sigma in SIGMAS:
                        noisy = blurred + rng.normal(0, sigma, blurred.shape)
                        noises[sigma].append(measure(pictured(noisy)).noise)

    print(f"{len(sharp)} photographs, at most {side}x{side}")
    print("path px  found px: median   median error   within 25 % + 1 px   sharpness: median")
    for length, rows in extents.items():
        errors = [abs(found - true) for _, true, found in rows]
        print(
            f"{length:7.0f} {statistics.median(f for *_, f in rows):17.1f} "
            f"{statistics.median(errors):14.1f} {share_right(rows):20.0%} "
            f"{statistics.median(sharpnesses[length]):19.4f}"
        )
    print("noise   found: median   worst")
    for sigma, values in noises.items():
        worst = max(values, key=lambda value: abs(value - sigma))
        print(f"{sigma:5.0f} {statistics.median(values):15.2f} {worst:7.2f}")
    milliseconds = {f"{mp} megapixels": cost(mp) for mp in (1, 12)}
    print(", ".join(f"{name}: {ms:.1f} ms" for name, ms in milliseconds.items()))

    moved = [row for length, rows in extents.items() if length for row in rows]
    others = [row for row in moved if row[0] != "brick"]
    print(json.dumps({
        "blur_median_error_px": round(median_error(moved), 2),
        "blur_median_error_px_without_brick": round(median_error(others), 2),
        "blur_within_quarter_and_1_px": round(share_right(moved), 3),
        "blur_within_quarter_and_1_px_without_brick": round(share_right(others), 3),
        "blur_of_sharp_px": round(statistics.median(f for *_, f in extents[0.0]), 2),
        "noise_median": {f"{s:g}": round(statistics.median(v), 2) for s, v in noises.items()},
        "noise_median_error": {
            f"{s:g}": round(statistics.median(abs(x - s) for x in v), 2)
            for s, v in noises.items()
        },
        "milliseconds_1_megapixel": round(milliseconds["1 megapixels"], 1),
        "milliseconds_12_megapixels": round(milliseconds["12 megapixels"], 1),
        "milliseconds_per_megapixel_of_12": round(milliseconds["12 megapixels"] / 12, 2),
    }))  # fmt: skip


def extent(path: CameraPath) -> float:
    """The farthest that two places of a path lie apart, in pixels."""
    apart = np.hypot(path.dx[:, None] - path.dx, path.dy[:, None] - path.dy)
    return float(apart.max())


def pictured(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def median_error(rows: list[tuple[str, float, float]]) -> float:
    return statistics.median(abs(found - true) for _, true, found in rows)


def share_right(rows: list[tuple[str, float, float]]) -> float:
    return sum(abs(found - true) <= 0.25 * true + 1 for _, true, found in rows) / len(rows)


def cost(megapixels: int) -> float:
    """Milliseconds of processor time of a picture."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 1000 * megapixels, 3), dtype=np.uint8)
    taken = []
    for _ in range(7):
        began = time.process_time()
        measure(pixels)
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    typer.run(main)
