"""What is measured of a picture follows what was done to it; a baseline survives its JSON."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from deblur.contract import ModelContract
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.data.synthesis.scenes import PHOTOGRAPHS, discs, lettering
from deblur.errors import ModelFileError
from deblur.inputs import QUANTITIES, Baseline, Measured, Usual, bin_of, measure, sharpness
from tests.test_contract import CONTRACT


def drawn(seed: int) -> np.ndarray:
    """Discs of all sizes, as sharp as pixels can be: ``[384, 512, 3]``."""
    return np.asarray(discs(generator(seed, Stream.SCENE, 0)).resize((512, 384)))


def rounded(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray, length: float, seed: int) -> np.ndarray:
    path = random_camera_path(generator(seed, Stream.BLUR, 0), length, 0.0, wobble=0.0)
    return rounded(motion_blur(pixels, path)[0])


def noisy(pixels: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return rounded(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))


@pytest.mark.parametrize("length", [8.0, 12.0, 20.0, 28.0])
def test_the_extent_of_a_straight_blur_is_found(length: float) -> None:
    names = ("astronaut", "chelsea", "camera", "gravel", "china")
    sharp = [np.asarray(p.open())[40:340, 80:430] for p in PHOTOGRAPHS if p.name in names]
    found = [measure(blurred(pixels, length, n)).blur_px for n, pixels in enumerate(sharp)]
    assert len(found) == len(names)
    assert np.median(found) == pytest.approx(length, rel=0.25, abs=3.0)


def test_noise_does_not_hide_the_blur() -> None:
    plain = blurred(drawn(1), 16.0, 1)
    assert measure(noisy(plain, 4.0)).blur_px == pytest.approx(measure(plain).blur_px, rel=0.2)


def test_a_sharp_picture_has_a_blur_of_a_few_pixels() -> None:
    assert 0 < measure(drawn(0)).blur_px < 5
    assert measure(np.asarray(lettering(generator(3, Stream.SCENE, 0)))).blur_px < 6


@pytest.mark.parametrize("sigma", [1.0, 3.0, 12.0])
def test_the_noise_that_was_added_is_found(sigma: float) -> None:
    plain = blurred(drawn(2), 8.0, 2)
    assert measure(plain).noise < 0.6
    assert measure(noisy(plain, sigma)).noise == pytest.approx(sigma, rel=0.15)


def test_noise_on_a_flat_field_is_found_and_a_white_half_does_not_hide_it() -> None:
    field = noisy(np.full((400, 400, 3), 120.0), 5.0)
    assert measure(field).noise == pytest.approx(5.0, rel=0.03)
    field[:200] = 255
    assert measure(field).noise == pytest.approx(5.0, rel=0.05)


def test_blur_takes_sharpness_and_darkness_does_not() -> None:
    sharp = drawn(4)
    values = [sharpness(blurred(sharp, length, 4)) for length in (2.0, 6.0, 12.0)]
    assert sharpness(sharp) > 1.5 * values[0]
    assert values[0] > 1.5 * values[1] > 1.5 * values[2] > 0
    assert sharpness(rounded(0.5 * sharp)) == pytest.approx(sharpness(sharp), rel=0.05)
    assert measure(sharp).sharpness == sharpness(sharp)


def test_brightness_and_size_are_those_of_the_picture() -> None:
    white = measure(np.full((100, 300, 3), 255, np.uint8))
    assert white.brightness == pytest.approx(255.0)
    assert white.megapixels == 0.03
    green = np.zeros((600, 700, 3), np.uint8)
    green[..., 1] = 200
    assert measure(green).brightness == pytest.approx(0.587 * 200)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 50), (2, 2), (3, 3), (15, 40), (16, 16), (17, 33), (300, 5)]
)
def test_every_size_gives_finite_numbers_without_warnings(height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
            values = [getattr(measure(pixels), quantity) for quantity in QUANTITIES]
            assert np.isfinite(values).all() and min(values) >= 0
    flat = measure(np.full_like(noise, 9))
    assert (flat.sharpness, flat.blur_px, flat.noise) == (0.0, 0.0, 0.0)


def test_a_ramp_has_neither_noise_nor_sharpness() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    assert measure(ramp).noise == 0.0
    assert sharpness(ramp) == pytest.approx(0.0, abs=1e-6)


def some_measured(count: int, megapixels: float | None = None) -> list[Measured]:
    rng = np.random.default_rng(count)
    return [
        Measured(
            sharpness=float(rng.lognormal(-2, 1)), blur_px=float(rng.gamma(4, 3)),
            noise=float(rng.lognormal(0, 0.5)),
            megapixels=float(rng.choice([0.9216, 2.0736])) if megapixels is None else megapixels,
            brightness=float(rng.normal(120, 30)),
        )
        for _ in range(count)
    ]  # fmt: skip


def test_a_baseline_has_the_deciles_and_a_tenth_of_the_pictures_in_each() -> None:
    measured = some_measured(1000)
    baseline = Baseline.of(measured)
    noise = baseline.usual["noise"]
    # One picture may change its bin, as edges are rounded to six digits.
    assert noise.counts == pytest.approx((0, *[100] * 10, 0), abs=1)
    values = sorted(one.noise for one in measured)
    assert noise.edges[1:-1] == pytest.approx([values[100 * k - 1] for k in range(1, 10)], rel=1e-5)
    assert noise.edges[0] < values[0] and values[-1] < noise.edges[-1]
    assert noise.median == pytest.approx(values[499], rel=1e-5)


def test_equal_values_are_one_bin_and_what_is_larger_lies_beyond_it() -> None:
    usual = Baseline.of(some_measured(200, megapixels=0.9216)).usual["megapixels"]
    assert len(usual.edges) == 3
    edges = np.array(usual.edges)
    same, twice, half = (usual.counts[b] for b in bin_of(np.array([0.9216, 1.84, 0.46]), edges))
    assert (same, twice, half) == (200, 0, 0)
    assert usual.median == 0.9216


def test_few_pictures_make_few_bins() -> None:
    assert Baseline.of(some_measured(25)).usual["noise"].counts == (0, 13, 12, 0)
    assert sum(Baseline.of(some_measured(1)).usual["noise"].counts) == 1
    with pytest.raises(ValueError, match="at least one picture"):
        Baseline.of([])


def test_a_baseline_survives_its_json_which_is_small() -> None:
    baseline = Baseline.of(some_measured(500))
    text = json.dumps(baseline.to_json())
    assert len(text) < 2000
    assert Baseline.from_json(json.loads(text), "m.onnx") == baseline


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v["usual"].pop("noise"),
        lambda v: v["usual"]["noise"]["edges"].reverse(),
        lambda v: v["usual"]["noise"]["edges"].pop(),
        lambda v: v["usual"]["noise"]["counts"].__setitem__(1, -1),
        lambda v: v["usual"]["noise"]["edges"].__setitem__(-1, float("inf")),
        lambda v: v["usual"]["noise"].update(edges="none"),
        lambda v: v.update(pictures=3),
        lambda v: v.update(usual=[]),
    ],
)
def test_what_is_no_baseline_is_refused(spoil: object) -> None:
    values = Baseline.of(some_measured(100)).to_json()
    assert callable(spoil)
    spoil(values)
    with pytest.raises(ModelFileError, match=r"m\.onnx has an unreadable baseline"):
        Baseline.from_json(values, "m.onnx")
    with pytest.raises(ModelFileError, match="unreadable baseline"):
        Baseline.from_json(3, "m.onnx")


def test_the_median_is_the_upper_edge_of_its_bin() -> None:
    assert Usual((0.0, 1.0, 2.0, 3.0), (0, 1, 6, 3, 0)).median == 2.0


def test_a_contract_carries_the_baseline_and_does_without_it() -> None:
    baseline = Baseline.of(some_measured(120))
    contract = replace(CONTRACT, baseline=baseline.to_json())
    metadata = contract.to_metadata()
    assert ModelContract.from_metadata(metadata, "m.onnx") == contract
    assert Baseline.from_json(json.loads(metadata["deblur.baseline"]), "m.onnx") == baseline
    assert "deblur.baseline" not in CONTRACT.to_metadata()
    assert ModelContract.from_metadata(CONTRACT.to_metadata(), "m.onnx").baseline is None
    metadata["deblur.baseline"] = "{"
    with pytest.raises(ModelFileError, match="unreadable contract"):
        ModelContract.from_metadata(metadata, "m.onnx")
