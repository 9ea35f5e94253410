"""Faults planted in a clean data set are found under their name, on the right picture, alone."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.prepare import prepare
from deblur.data.validation import Finding, make_validation_config, validate_data
from deblur.images import read_rgb
from tests.data.validation.conftest import CROP, save

#: What a fault leads to: names of checks and the first picture that each names.
Expected = set[tuple[str, str]]


def pair(root: Path, scene: str, frame: int) -> tuple[Path, Path]:
    """The blurred and the sharp file."""
    (folder,) = (split / scene for split in root.iterdir() if (split / scene).is_dir())
    return folder / "blur" / f"{frame:06d}.png", folder / "sharp" / f"{frame:06d}.png"


def change(files: tuple[Path, Path], how: Callable[[np.ndarray], np.ndarray]) -> None:
    for file in files:
        save(how(read_rgb(file).astype(np.float64)), file)


def recompressed(pixels: np.ndarray) -> np.ndarray:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85)
    return read_rgb_bytes(encoded.getvalue())


def read_rgb_bytes(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def missing_sharp(root: Path) -> Expected:
    blur, sharp = pair(root, "discs-1", 1)
    sharp.unlink()
    return {("unpaired", str(blur))}


def missing_blur(root: Path) -> Expected:
    blur, sharp = pair(root, "discs-1", 2)
    blur.unlink()
    return {("unpaired", str(sharp))}


def empty_file(root: Path) -> Expected:
    blur, _ = pair(root, "discs-1", 3)
    blur.write_bytes(b"")
    return {("unreadable", str(blur))}


def truncated_png(root: Path) -> Expected:
    _, sharp = pair(root, "discs-1", 4)
    sharp.write_bytes(sharp.read_bytes()[:-900])
    return {("unreadable", str(sharp))}


def text_called_png(root: Path) -> Expected:
    blur, _ = pair(root, "masonry-1", 1)
    blur.write_text("<html>404 Not Found</html>")
    return {("unreadable", str(blur))}


def size_differs(root: Path) -> Expected:
    blur, sharp = pair(root, "masonry-1", 2)
    save(read_rgb(sharp)[:-1, :-2], sharp)
    return {("size_differs", str(blur))}


def too_small(root: Path) -> Expected:
    files = pair(root, "masonry-1", 3)
    change(files, lambda pixels: pixels[:100, :150])
    return {("too_small", str(files[0]))}


def grey_of_16_bits(root: Path) -> Expected:
    files = pair(root, "lettering-1", 1)
    for file in files:
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(file)
    return {("converted", str(files[0]))}


def palette(root: Path) -> Expected:
    blur, _ = pair(root, "lettering-1", 2)
    Image.open(blur).quantize(256).save(blur)
    return {("converted", str(blur))}


def alpha(root: Path) -> Expected:
    _, sharp = pair(root, "lettering-1", 3)
    Image.open(sharp).convert("RGBA").save(sharp)
    return {("converted", str(sharp))}


def copied_pair(root: Path) -> Expected:
    for source, target in zip(
        pair(root, "gratings-1", 1), pair(root, "gratings-1", 2), strict=True
    ):
        shutil.copy(source, target)
    return {("duplicate", str(pair(root, "gratings-1", 2)[0]))}


def copied_scene(root: Path) -> Expected:
    """Another scene's sharp picture, recompressed, and its blurred one."""
    for source, target in zip(
        pair(root, "lettering-2", 4), pair(root, "masonry-2", 1), strict=True
    ):
        save(recompressed(read_rgb(source)), target)
    return {("duplicate", str(pair(root, "masonry-2", 1)[1]))}


def swapped(root: Path) -> Expected:
    blur, sharp = pair(root, "gratings-1", 3)
    between = blur.with_name("between")
    blur.rename(between)
    sharp.rename(blur)
    between.rename(sharp)
    return {("swapped", str(blur))}


def identical(root: Path) -> Expected:
    blur, sharp = pair(root, "gratings-1", 4)
    Image.open(sharp).save(blur, compress_level=0)  # other bytes, the same pixels
    return {("identical", str(blur))}


def misaligned(root: Path) -> Expected:
    blur, sharp = pair(root, "discs-2", 1)
    save(read_rgb(blur)[:, 9:], blur)
    save(read_rgb(sharp)[:, :-9], sharp)
    return {("misaligned", str(blur))}


def other_content(root: Path) -> Expected:
    blur, sharp = pair(root, "discs-2", 2)
    size = Image.open(sharp).size
    Image.open(pair(root, "lettering-2", 4)[1]).resize(size).save(sharp)
    return {("different_content", str(blur))}


def far_too_dark(root: Path) -> Expected:
    files = pair(root, "discs-2", 3)
    change(files, lambda pixels: pixels * 0.03)
    return {("dark", str(files[0]))}


def overexposed(root: Path) -> Expected:
    files = pair(root, "discs-2", 4)
    change(files, lambda pixels: pixels * 1.5 + 150)
    return {("saturated", str(files[0]))}


def flat(root: Path) -> Expected:
    files = pair(root, "lettering-2", 1)
    rng = np.random.default_rng(0)
    change(files, lambda pixels: 120 + rng.normal(0, 1, pixels.shape))
    return {("flat", str(files[0]))}


def hardly_blurred(root: Path) -> Expected:
    blur, sharp = pair(root, "lettering-2", 2)
    noise = np.random.default_rng(0).normal(0, 0.5, read_rgb(sharp).shape)
    save(read_rgb(sharp) + noise, blur)
    return {("psnr_outlier", str(blur))}


def blurred_far_darker(root: Path) -> Expected:
    blur, _ = pair(root, "lettering-2", 3)
    save(read_rgb(blur) * 0.35, blur)
    return {("psnr_low", str(blur))}


def leaked(root: Path) -> Expected:
    for source, target in zip(
        pair(root, "lettering-2", 4), pair(root, "masonry-4", 1), strict=True
    ):
        shutil.copy(source, target)
    return {("leakage", str(pair(root, "masonry-4", 1)[1]))}


def leaked_recompressed(root: Path) -> Expected:
    for source, target in zip(pair(root, "masonry-1", 4), pair(root, "discs-4", 1), strict=True):
        save(recompressed(read_rgb(source)), target)
    return {("leakage", str(pair(root, "discs-4", 1)[1]))}


def leaked_resized(root: Path) -> Expected:
    for source, target in zip(
        pair(root, "gratings-1", 1), pair(root, "lettering-4", 1), strict=True
    ):
        Image.open(source).resize((310, 230), Image.Resampling.BICUBIC).save(target)
    return {("leakage", str(pair(root, "lettering-4", 1)[1]))}


def leaked_brightened(root: Path) -> Expected:
    """From validation into test."""
    for source, target in zip(pair(root, "discs-3", 1), pair(root, "discs-4", 2), strict=True):
        save(read_rgb(source) * 1.08 + 3, target)
    return {("leakage", str(pair(root, "discs-4", 2)[1]))}


def scene_in_two_splits(root: Path) -> Expected:
    (root / "val" / "lettering-3").rename(root / "val" / "lettering-1")
    return {("scene_overlap", str(root / "val" / "lettering-1" / "blur" / "000001.png"))}


#: All that can be planted together, the ones that read other pairs after those stay whole.
FAULTS = (
    missing_sharp, missing_blur, empty_file, truncated_png, text_called_png, size_differs,
    too_small, grey_of_16_bits, palette, alpha, copied_pair, copied_scene, swapped, identical,
    misaligned, other_content, far_too_dark, overexposed, flat, hardly_blurred, blurred_far_darker,
    leaked, leaked_recompressed, leaked_resized, leaked_brightened, scene_in_two_splits,
)  # fmt: skip


def found(findings: tuple[Finding, ...]) -> Expected:
    assert len({(f.check, f.pictures) for f in findings}) == len(findings)
    return {(f.check, f.pictures[0] if f.pictures else "") for f in findings}


def test_a_clean_data_set_gives_no_finding_at_all(clean_root: Path) -> None:
    validation = validate_data(clean_root, crop=CROP)
    assert validation.findings == ()
    assert validation.usable
    assert validation.pairs == {"train": 26, "val": 4, "test": 6}
    assert validation.scenes == {"train": 7, "val": 2, "test": 3}
    validation.require_usable()


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_and_nothing_else(
    root: Path, plant: Callable[[Path], Expected]
) -> None:
    expected = plant(root)
    assert found(validate_data(root, crop=CROP).findings) == expected


def test_all_faults_are_found_at_once_and_nothing_else(root: Path) -> None:
    expected = set().union(*(plant(root) for plant in FAULTS))
    assert len(expected) == len(FAULTS)
    assert found(validate_data(root, crop=CROP).findings) == expected


def test_splits_that_are_missing_are_named(root: Path) -> None:
    shutil.rmtree(root / "test")
    (finding,) = validate_data(root, crop=CROP).findings
    assert (finding.check, finding.severity) == ("no_test", "warning")
    assert finding.message == "there is no split test, only train, val"
    shutil.rmtree(root / "val")
    (finding,) = validate_data(root, crop=CROP).findings
    assert finding.message == "there is no split val or test, only train"
    (root / "train").rename(root / "test")
    (finding,) = validate_data(root, crop=CROP).findings
    assert (finding.check, finding.severity) == ("no_train", "error")


def test_a_set_that_differs_from_its_reference_is_said_to_drift(
    root: Path, clean_root: Path, tmp_path: Path
) -> None:
    validate_data(clean_root, crop=CROP, out=tmp_path / "earlier")
    prepare(clean_root, tmp_path / "prepared")
    for reference in (tmp_path / "earlier", tmp_path / "prepared"):
        same = validate_data(root, crop=CROP, reference=reference)
        assert same.findings == ()
    for file in root.rglob("*.png"):
        save(read_rgb(file) * 0.5, file)
    darker = validate_data(root, crop=CROP, reference=tmp_path / "earlier" / "report.json")
    assert {f.check for f in darker.findings} == {"drift"}
    level = darker.findings[1]
    assert "mean level of the sharp pictures differs from the reference" in level.message
    assert level.value is not None and level.value > 0.8
    assert "p = " in level.message
    against_prepared = validate_data(root, crop=CROP, reference=tmp_path / "prepared").findings
    assert [f.value for f in against_prepared] == [f.value for f in darker.findings]


def test_what_was_converted_is_said(root: Path) -> None:
    for plant in (grey_of_16_bits, palette, alpha):
        plant(root)
    said = " ".join(f.message for f in validate_data(root, crop=CROP).findings)
    for stored in ("grey, 16 bit", "a palette", "RGB with alpha"):
        assert f"is stored as {stored}" in said


def test_a_leak_names_both_pictures(root: Path) -> None:
    leaked(root)
    (finding,) = validate_data(root, crop=CROP).findings
    here, there = pair(root, "masonry-4", 1)[1], pair(root, "lettering-2", 4)[1]
    assert finding.pictures == (str(here), str(there))
    assert finding.message == f"{here} in test is the same as {there} in train"
    assert finding.value == 0.0
    assert finding.severity == "error"


def test_the_measured_displacement_is_that_which_was_planted(root: Path) -> None:
    misaligned(root)
    (finding,) = validate_data(root, crop=CROP).findings
    assert finding.value == pytest.approx(9.0, abs=1.0)


def test_a_check_that_is_off_hides_nothing_else(root: Path) -> None:
    blur, sharp = pair(root, "discs-2", 2)
    other_content(root)
    config = make_validation_config({"different_content.severity": "off"})
    findings = validate_data(root, crop=CROP, config=config).findings
    assert "different_content" not in {f.check for f in findings}
    assert any(str(blur) in f.pictures or str(sharp) in f.pictures for f in findings)


def test_a_stricter_threshold_finds_more(root: Path) -> None:
    config = make_validation_config({"psnr_low.threshold": 20, "psnr_low.severity": "error"})
    validation = validate_data(root, crop=CROP, config=config)
    assert {f.check for f in validation.findings} == {"psnr_low"}
    assert all(f.value is not None and f.value < 20.0 for f in validation.errors)
