"""What is measured on a pair is what was done to it."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.listing import Pair
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import discs, gratings, lettering, masonry
from deblur.data.validation.alignment import align
from deblur.data.validation.fingerprint import COMMON, fingerprint, nearest_matches
from deblur.data.validation.measure import PairMeasures, measure
from deblur.metrics import psnr
from tests.data.validation.conftest import save

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
DRAWS = (discs, lettering, masonry, gratings)


def drawn(number: int) -> np.ndarray:
    """``[420, 560, 3]`` uint8, another one for every number."""
    return np.asarray(DRAWS[number % 4](generator(5, Stream.SCENE, number)))


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) @ LUMA


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of the fingerprints; infinite where they cannot be compared."""
    marks = [[fingerprint(luma(p))] for p in (one, other)]
    found = list(nearest_matches(marks[0], marks[1], 256.0))
    return found[0][2] if found else float("inf")


def scaled(pixels: np.ndarray, by: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    size = (round(width * by), round(height * by))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def recompressed(pixels: np.ndarray) -> np.ndarray:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=50)
    return np.asarray(Image.open(encoded))


def brightened(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 1.1 + 5).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("length", [4.0, 10.0, 20.0, 40.0])
@pytest.mark.parametrize("number", range(4))
def test_motion_blur_is_neither_displacement_nor_another_scene(number: int, length: float) -> None:
    rng = generator(1, Stream.BLUR, number, int(length))
    blurred, sharp = motion_blur(drawn(number), random_camera_path(rng, length, 0.25))
    noisy = blurred + rng.normal(0, 1, blurred.shape)
    found = align(luma(noisy), luma(sharp))
    assert found is not None
    assert np.hypot(found.dx, found.dy) < (1.0 if length <= 10 else 4.5)
    assert found.similarity > 0.5


@pytest.mark.parametrize("length", [4.0, 12.0, 20.0])
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(("dx", "dy"), [(8, 0), (0, -8), (5, 6), (-15, 9)])
def test_a_displacement_is_measured_to_a_pixel(
    number: int, length: float, dx: int, dy: int
) -> None:
    path = random_camera_path(generator(2, Stream.BLUR, number), length, 0.1)
    blurred, sharp = motion_blur(drawn(number), path)
    height, width = sharp.shape[:2]
    moved = blurred[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    fixed = sharp[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
    found = align(luma(moved), luma(fixed))
    assert found is not None
    # The camera's mean view lies off the middle one, and content moves against the camera.
    expected = dx - path.dx.mean(), dy - path.dy.mean()
    assert (found.dx, found.dy) == pytest.approx(expected, abs=1.0)


def test_two_scenes_have_little_in_common() -> None:
    # One wall only: all are laid of the same bricks, which agree by 0.4 to 0.5.
    for one, other in combinations([0, 1, 2, 3, 4, 5, 7, 8, 9], 2):
        found = align(luma(drawn(one)), luma(drawn(other)))
        assert found is not None
        assert found.similarity < 0.3


def test_nothing_is_said_of_what_has_no_structure_or_size() -> None:
    grey = luma(drawn(0))
    assert align(np.full_like(grey, 90), grey) is None
    assert align(grey[:30, :40], grey[:30, :40]) is None


@pytest.mark.parametrize(
    "change",
    [recompressed, brightened, lambda p: scaled(p, 0.5), lambda p: scaled(p, 1.3)],
    ids=["recompressed", "brightened", "halved", "enlarged"],
)
def test_a_changed_copy_keeps_its_fingerprint(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    smooth = scaled(scaled(drawn(0), 0.05), 20)  # few of its bits are decided
    for pixels in (*(drawn(n) for n in range(8)), smooth):
        assert distance(pixels, change(pixels)) <= 8


def test_different_scenes_differ_in_far_more_bits_than_copies() -> None:
    distances = [distance(drawn(a), drawn(b)) for a, b in combinations(range(12), 2)]
    assert min(distances) > 64
    assert 110 < np.median(distances) < 146


def test_a_picture_that_is_almost_even_is_like_no_other() -> None:
    ramp = np.broadcast_to(np.linspace(90, 110, 200)[None, :, None], (150, 200, 3)).astype(np.uint8)
    mask = int(fingerprint(luma(ramp))[64:], 16)
    assert mask.bit_count() < COMMON
    assert distance(ramp, ramp) == float("inf")


def test_the_nearest_match_is_the_one_that_a_loop_finds() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 256, 64, np.uint8) | np.repeat([0, 240], 32).astype(np.uint8)
            for _ in range(300)]  # fmt: skip
    these, others = ([row.tobytes().hex() for row in part] for part in (rows[:170], rows[170:]))
    found = {i: (j, d) for i, j, d in nearest_matches(these, others, 110.0)}
    expected = {}
    for i, this in enumerate(these):
        distances = []
        for other in others:
            a, b = (int(mark[:64], 16) for mark in (this, other))
            mask = int(this[64:], 16) & int(other[64:], 16)
            distances.append(((a ^ b) & mask).bit_count() * 256 / mask.bit_count())
        if min(distances) <= 110.0:
            expected[i] = (int(np.argmin(distances)), pytest.approx(min(distances), rel=1e-5))
    assert 10 < len(expected) < 170
    assert found == expected


def test_a_pair_is_measured_as_numbers_say(tmp_path: Path) -> None:
    sharp = drawn(0)[:100, :160]
    blurred = (sharp.astype(int) + np.roll(sharp, 1, axis=1)) // 2
    files = tmp_path / "blur.png", tmp_path / "sharp.png"
    for pixels, file in zip((blurred, sharp), files, strict=True):
        save(pixels, file)
    found = measure(Pair("scene", "1.png", *files))
    assert found.psnr == pytest.approx(psnr(blurred.astype(np.uint8), sharp), abs=1e-4)
    grey = luma(sharp)
    assert found.sharp.level == pytest.approx(grey.mean(), abs=1e-2)
    assert found.sharp.contrast == pytest.approx(grey.std(), abs=1e-2)
    assert (found.sharp.width, found.sharp.height) == (160, 100)
    assert found.sharp.stored == "RGB, 8 bit"
    assert found.blur.sharpness < found.sharp.sharpness
    assert found.shift == pytest.approx((0.5, 0.0), abs=0.2)
    assert PairMeasures.from_json(found.as_json()) == found


def test_sharpness_hardly_sees_the_noise_of_a_sensor(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 3, drawn(0).shape)
    values = []
    for name, pixels in (("clean", drawn(0)), ("noisy", drawn(0) + noise)):
        save(pixels, tmp_path / f"{name}.png")
        pair = Pair("scene", name, tmp_path / f"{name}.png", tmp_path / f"{name}.png")
        values.append(measure(pair).sharp.sharpness)
    assert values[1] == pytest.approx(values[0], rel=0.03)


@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        ("RGB", "RGB, 8 bit"), ("L", "grey, 8 bit"), ("I;16", "grey, 16 bit"), ("P", "a palette"),
        ("1", "black and white"), ("RGBA", "RGB with alpha"), ("LA", "grey with alpha"),
    ],
)  # fmt: skip
def test_how_a_png_holds_its_pixels_is_told(mode: str, stored: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    if mode == "I;16":
        Image.fromarray(drawn(0)[..., 0].astype(np.uint16) * 200).save(file)
    else:
        Image.fromarray(drawn(0)).convert(mode).save(file)
    assert measure(Pair("scene", "1.png", file, file)).sharp.stored == stored


def test_colour_of_16_bits_and_cmyk_are_told(tmp_path: Path) -> None:
    cmyk = tmp_path / "cmyk.jpg"
    Image.fromarray(drawn(0)).convert("CMYK").save(cmyk)
    assert measure(Pair("scene", "1", cmyk, cmyk)).sharp.stored == "CMYK"
    cv2 = pytest.importorskip("cv2")
    deep = tmp_path / "deep.png"
    deep.write_bytes(cv2.imencode(".png", drawn(0).astype(np.uint16) * 257)[1].tobytes())
    assert measure(Pair("scene", "1", deep, deep)).sharp.stored == "RGB, 16 bit"


def test_a_file_that_is_gone_is_a_finding_and_no_error(tmp_path: Path) -> None:
    save(drawn(0), tmp_path / "sharp.png")
    found = measure(Pair("scene", "1", tmp_path / "blur.png", tmp_path / "sharp.png"))
    assert found.blur.error == f"{tmp_path / 'blur.png'} does not exist: expected a picture file"
    assert found.sharp.error is None
    assert found.psnr is None


def test_the_smallest_pictures_are_still_told_apart() -> None:
    one, other = (np.random.default_rng(n).normal(120, 40, (32, 40)) for n in range(2))
    same, different = align(one + 5, one), align(other, one)
    assert same is not None and different is not None
    assert (same.dx, same.dy) == pytest.approx((0.0, 0.0), abs=0.01)
    assert same.similarity == pytest.approx(1.0, abs=1e-6)
    assert different.similarity < 0.32
