"""Checks before training: every fault is found, named and told how to mend."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data.validation import Inspection, inspect, require_usable
from deblur.errors import DataError
from deblur.images import read_rgb

CROP = 64


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that may be changed."""
    return shutil.copytree(tiny_root, tmp_path / "pairs")


@pytest.fixture
def blurred(root: Path) -> Path:
    """The blurred picture of the pair that the tests damage."""
    return root / "train" / "discs-train" / "blur" / "000002.png"


@pytest.fixture
def sharp(blurred: Path) -> Path:
    return blurred.parent.parent / "sharp" / blurred.name


def only_fault(root: Path, crop: int = CROP) -> str:
    inspection = inspect(root, crop=crop)
    (fault,) = inspection.faults
    assert inspection.pairs == {"train": 4, "val": 1, "test": 1}  # the faulty one counts
    return fault


def save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def test_a_sound_data_set_has_no_faults_and_is_counted(tiny_root: Path) -> None:
    inspection = inspect(tiny_root, crop=CROP)
    assert inspection.faults == []
    assert inspection.pairs == {"train": 4, "val": 1, "test": 1}
    assert inspection.scenes == {"train": 2, "val": 1, "test": 1}
    require_usable(tiny_root, inspection)  # does not raise


def test_mean_psnr_equals_the_value_computed_by_hand(tmp_path: Path) -> None:
    flat = np.full((20, 30, 3), 100, np.uint8)
    # Off by 5, 10 and 1 everywhere: MSE 25, 100 and 1.
    for name, split, off in (("1", "train", 5), ("2", "train", 10), ("1", "test", 1)):
        scene = tmp_path / split / "scene"
        save(flat + np.uint8(off), scene / "blur" / f"{name}.png")
        save(flat, scene / "sharp" / f"{name}.png")
    inspection = inspect(tmp_path, crop=20)
    assert inspection.faults == []
    assert inspection.blurred_psnr == {
        "train": pytest.approx((34.151404 + 28.130804) / 2, abs=1e-5),
        "test": pytest.approx(48.130804, abs=1e-5),
    }


def test_faulty_pairs_do_not_count_in_the_mean(
    root: Path, tiny_root: Path, blurred: Path, sharp: Path
) -> None:
    shutil.copy(sharp, blurred)
    values = []
    for file in sorted((tiny_root / "train").glob("*/blur/*.png")):
        if file.relative_to(tiny_root) != blurred.relative_to(root):
            original = read_rgb(file.parent.parent / "sharp" / file.name).astype(float)
            values.append(-10 * math.log10(np.mean((read_rgb(file) / 255 - original / 255) ** 2)))
    assert len(values) == 3
    mean = inspect(root, crop=CROP).blurred_psnr["train"]
    assert mean == pytest.approx(sum(values) / 3, abs=1e-9)


def test_a_split_of_faults_only_has_no_mean(root: Path) -> None:
    scene = root / "val" / "lettering-val"
    shutil.copy(scene / "sharp" / "000001.png", scene / "blur" / "000001.png")
    inspection = inspect(root, crop=CROP)
    assert math.isnan(inspection.blurred_psnr["val"])
    assert inspection.blurred_psnr["train"] > 10.0


def test_missing_and_empty_folders_are_refused_with_the_layout(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match=r"expected ROOT/\{train,test\}/SCENE"):
            inspect(folder)


def test_a_split_without_pairs_is_refused(root: Path) -> None:
    shutil.rmtree(root / "test" / "lettering-test")
    with pytest.raises(DataError, match="holds no pairs of 'blur' and 'sharp' pictures"):
        inspect(root)


def test_unpaired_picture_is_refused_with_both_paths(
    root: Path, blurred: Path, sharp: Path
) -> None:
    sharp.unlink()
    with pytest.raises(DataError, match="has no counterpart") as raised:
        inspect(root)
    assert str(blurred) in str(raised.value)
    assert str(sharp) in str(raised.value)


def test_differently_sized_pair_is_a_fault_that_names_both_sizes(
    root: Path, blurred: Path, sharp: Path
) -> None:
    pixels = read_rgb(sharp)
    height, width = pixels.shape[:2]
    save(pixels[:-1, :-2], sharp)
    assert only_fault(root) == (
        f"{blurred} is {width}x{height} but its sharp picture is {width - 2}x{height - 1}: "
        "both must have the same size"
    )


@pytest.mark.parametrize("which", ["blurred", "sharp"])
def test_truncated_png_is_a_fault_that_names_the_file(
    root: Path, blurred: Path, sharp: Path, which: str
) -> None:
    file = blurred if which == "blurred" else sharp
    file.write_bytes(file.read_bytes()[:-500])
    fault = only_fault(root)
    assert fault.startswith(f"{file} is damaged or truncated (")
    assert "expected a complete file" in fault
    assert fault.endswith("replace the file, or remove the pair")


def test_a_text_with_the_name_of_a_picture_is_a_fault(root: Path, sharp: Path) -> None:
    sharp.write_text("<html>404 Not Found</html>")
    fault = only_fault(root)
    assert fault.startswith(f"{sharp} is not a picture that can be read")
    assert "<html>40" in fault
    assert fault.endswith("replace the file, or remove the pair")


def test_a_picture_smaller_than_the_crop_is_a_fault_with_both_sizes(
    root: Path, blurred: Path, sharp: Path
) -> None:
    for file in (blurred, sharp):
        save(read_rgb(file)[:70, :63], file)
    assert only_fault(root, crop=64) == (
        f"{blurred} is 63x70, smaller than the training crop of 64x64: "
        "remove the pair, or train on smaller crops (patch_size)"
    )
    assert inspect(root, crop=63).faults == []


def test_identical_pair_is_a_fault_as_it_teaches_nothing(
    root: Path, blurred: Path, sharp: Path
) -> None:
    shutil.copy(sharp, blurred)
    assert only_fault(root) == (
        f"{blurred} and its sharp picture are identical: nothing to learn from; remove it"
    )


def inspection_with(faults: int) -> Inspection:
    return Inspection(
        pairs={"train": 40, "test": 2}, scenes={"train": 1, "test": 1},
        blurred_psnr={"train": 20.0, "test": 21.0},
        faults=[f"pair {number} is damaged" for number in range(faults)],
    )  # fmt: skip


@pytest.mark.parametrize(("faults", "shown", "more"), [(1, 1, 0), (10, 10, 0), (13, 10, 3)])
def test_at_most_ten_faults_are_listed_and_the_rest_counted(
    tmp_path: Path, faults: int, shown: int, more: int
) -> None:
    with pytest.raises(DataError) as raised:
        require_usable(tmp_path, inspection_with(faults))
    first, *listed = str(raised.value).split("\n  ")
    assert first == f"{faults} of 42 pairs in {tmp_path} cannot be used:"
    assert listed[:shown] == [f"pair {number} is damaged" for number in range(shown)]
    assert listed[shown:] == ([f"and {more} more"] if more else [])


def test_no_faults_raise_nothing(tmp_path: Path) -> None:
    require_usable(tmp_path, inspection_with(0))


def test_every_fault_of_a_data_set_is_found_at_once(root: Path) -> None:
    scene = root / "train" / "masonry-train"
    (scene / "blur" / "000001.png").write_bytes(b"")
    shutil.copy(scene / "sharp" / "000002.png", scene / "blur" / "000002.png")
    with pytest.raises(DataError) as raised:
        require_usable(root, inspect(root, crop=CROP))
    message = str(raised.value)
    assert message.startswith(f"2 of 6 pairs in {root} cannot be used:")
    assert f"{scene / 'blur' / '000001.png'} is empty" in message
    assert f"{scene / 'blur' / '000002.png'} and its sharp picture are identical" in message
