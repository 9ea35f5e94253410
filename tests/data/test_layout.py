"""Finding pairs, and what is said when they are not there."""

import shutil
from pathlib import Path

import pytest

from deblur.data.blur import Averaging
from deblur.data.layout import Pair, existing_splits, find_pairs
from deblur.errors import DataError

EXPECTED = "expected ROOT/{train,test}/SCENE/{blur,sharp}/*.png, as in GOPRO_Large"


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that may be changed."""
    return shutil.copytree(tiny_root, tmp_path / "pairs")


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as raised:
        existing_splits(root)
    return str(raised.value)


def test_splits_are_named_in_the_order_of_their_use(root: Path) -> None:
    (root / "extra").mkdir()
    assert existing_splits(root) == ["train", "val", "test"]
    shutil.rmtree(root / "val")
    assert existing_splits(root) == ["train", "test"]


def test_missing_folder_is_refused_with_the_layout_and_the_command(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    message = refusal(missing)
    assert message.startswith(f"there is no data folder {missing}: {EXPECTED}")
    assert message.endswith(f"make a sample with  deblur data sample {missing}")


def test_empty_folder_is_refused_as_holding_nothing(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (f"{tmp_path} has no folder 'train' (it holds nothing): {EXPECTED}")


def test_folder_without_train_is_refused_with_what_it_holds(root: Path) -> None:
    (root / "train").rename(root / "training")
    message = refusal(root)
    assert message == f"{root} has no folder 'train' (it holds test, training, val): {EXPECTED}"


def test_of_a_crowded_folder_only_five_names_are_shown(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"file{number}").touch()
    assert "(it holds file0, file1, file2, file3, file4)" in refusal(tmp_path)


def test_pairs_are_sorted_by_scene_and_name(root: Path) -> None:
    folder = root / "train"
    pairs = find_pairs(folder)
    assert [(pair.scene, pair.name) for pair in pairs] == [
        ("discs-train", "000001.png"), ("discs-train", "000002.png"),
        ("masonry-train", "000001.png"), ("masonry-train", "000002.png"),
    ]  # fmt: skip
    scene = folder / "discs-train"
    assert pairs[0] == Pair(
        "discs-train", "000001.png", scene / "blur" / "000001.png", scene / "sharp" / "000001.png"
    )


def test_hidden_folders_and_other_files_are_passed_over(root: Path) -> None:
    scene = root / "train" / "discs-train"
    shutil.copytree(scene, root / "train" / ".trash")
    (scene / "blur" / "notes.txt").touch()
    (scene / "sharp" / "Thumbs.db").touch()
    (root / "train" / "index.csv").touch()
    assert len(find_pairs(root / "train")) == 4


@pytest.mark.parametrize("subset", ["blur", "blur_gamma"])
def test_the_chosen_blurred_folder_is_taken(root: Path, subset: Averaging) -> None:
    scene = root / "val" / "lettering-val"
    shutil.copytree(scene / "blur", scene / "blur_gamma")
    (pair,) = find_pairs(root / "val", subset)
    assert pair.blur == scene / subset / "000001.png"
    assert pair.sharp == scene / "sharp" / "000001.png"


@pytest.mark.parametrize(("lost", "left"), [("sharp", "blur"), ("blur", "sharp")])
def test_unpaired_picture_is_refused_with_both_paths(root: Path, lost: str, left: str) -> None:
    scene = root / "train" / "masonry-train"
    (scene / lost / "000002.png").unlink()
    with pytest.raises(DataError) as raised:
        find_pairs(root / "train")
    message = str(raised.value)
    assert message.startswith(
        f"{scene / left / '000002.png'} has no counterpart {scene / lost / '000002.png'}: "
        "every picture in 'blur' needs one of the same name in 'sharp'"
    )
    assert message.endswith("add it, or remove this one")


def test_a_scene_without_its_sharp_folder_is_refused_with_the_first_picture(root: Path) -> None:
    scene = root / "test" / "lettering-test"
    shutil.rmtree(scene / "sharp")
    with pytest.raises(DataError, match="has no counterpart") as raised:
        find_pairs(root / "test")
    assert str(scene / "sharp" / "000001.png") in str(raised.value)


def test_missing_split_is_named(root: Path) -> None:
    with pytest.raises(DataError) as raised:
        find_pairs(root / "validation")
    assert str(raised.value) == f"there is no data folder {root / 'validation'}: {EXPECTED}"


@pytest.mark.parametrize("made", ["", "scene", "scene/blur", "scene/other"])
def test_a_split_without_pairs_is_refused(tmp_path: Path, made: str) -> None:
    (tmp_path / "train" / made).mkdir(parents=True)
    with pytest.raises(DataError) as raised:
        find_pairs(tmp_path / "train")
    assert str(raised.value) == (
        f"{tmp_path / 'train'} holds no pairs of 'blur' and 'sharp' pictures: {EXPECTED}"
    )
