"""Finding pairs in every layout, and what is said when they are not there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from deblur.data.layout import Averaging
from deblur.data.listing import (
    Pair,
    divide,
    find_pairs,
    find_splits,
    list_data,
    split_of,
)
from deblur.data.pairs import data_kind
from deblur.errors import DataError

EXPECTED = "expected ROOT/{train,test}/SCENE/{blur,sharp}/*.png as in GOPRO_Large"


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def found(data: Path | str, subset: Averaging = "blur") -> dict[str, list[tuple[str, str]]]:
    splits = find_splits(data, subset)
    return {split: [(pair.scene, pair.name) for pair in pairs] for split, pairs in splits.items()}


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as raised:
        call()
    return str(raised.value)


def test_gopro_large_as_published(tmp_path: Path) -> None:
    for split, scene in (("train", "GOPR0372_07_00"), ("test", "GOPR0384_11_00")):
        for folder in ("blur", "blur_gamma", "sharp"):
            tree(tmp_path, f"{split}/{scene}/{folder}/000047.png")
    assert found(tmp_path) == {
        "train": [("GOPR0372_07_00", "000047.png")],
        "test": [("GOPR0384_11_00", "000047.png")],
    }
    (pair,) = find_pairs(tmp_path, "train", "blur_gamma")
    assert pair.blur == tmp_path / "train/GOPR0372_07_00/blur_gamma/000047.png"
    assert pair.sharp == tmp_path / "train/GOPR0372_07_00/sharp/000047.png"


def test_pairs_are_sorted_by_scene_and_name(root: Path) -> None:
    pairs = find_pairs(root, "train")
    assert [(pair.scene, pair.name) for pair in pairs] == [
        ("discs-train", "000001.png"), ("discs-train", "000002.png"),
        ("masonry-train", "000001.png"), ("masonry-train", "000002.png"),
    ]  # fmt: skip
    scene = root / "train" / "discs-train"
    assert pairs[0] == Pair(
        "discs-train", "000001.png", scene / "blur" / "000001.png", scene / "sharp" / "000001.png"
    )


def test_one_split_of_gopro_is_that_split(root: Path) -> None:
    assert list(find_splits(root / "train")) == ["train"]
    assert find_pairs(root / "train", "train") == find_pairs(root, "train")
    assert find_pairs(root / "test", "test") == find_pairs(root, "test")


def test_plain_folders_by_split(tmp_path: Path) -> None:
    tree(tmp_path, "train/blur/a.jpg", "train/sharp/a.jpg", "val/blur/b.png", "val/sharp/b.png")
    assert found(tmp_path) == {"train": [("a", "a.jpg")], "val": [("b", "b.png")]}


def test_plain_folders_are_divided_by_name(tmp_path: Path) -> None:
    names = [f"photo-{number:03d}" for number in range(200)]
    for name in names:
        tree(tmp_path, f"blur/{name}.jpg", f"sharp/{name}.jpg")
    splits = find_splits(tmp_path)
    assert {pair.name for pairs in splits.values() for pair in pairs} == {n + ".jpg" for n in names}
    assert 10 <= len(splits["test"]) <= 30
    assert 10 <= len(splits["val"]) <= 30
    # One picture more moves no other.
    tree(tmp_path, "blur/another.jpg", "sharp/another.jpg")
    grown = find_splits(tmp_path)
    for split, pairs in splits.items():
        assert set(pairs) <= set(grown[split])


@pytest.mark.parametrize("count", range(1, 12))
def test_a_small_set_has_all_splits_where_chance_left_enough_for_training(count: int) -> None:
    for seed in range(50):
        scenes = [f"{seed}-{number}" for number in range(count)]
        by_chance = [split_of(scene, 0.1) for scene in scenes]
        splits = divide(scenes, 0.1)
        assert list(splits) == scenes
        if by_chance.count("train") >= 3:
            assert set(splits.values()) == {"train", "val", "test"}
        for scene, chance in zip(scenes, by_chance, strict=True):
            assert splits[scene] == chance or chance == "train"
    assert set(divide(["a", "b", "c", "d"], 0.0).values()) == {"train"}


def test_scenes_without_splits_are_divided_by_scene(tmp_path: Path) -> None:
    for scene in range(40):
        for frame in range(3):
            tree(tmp_path, *(f"s{scene}/{kind}/{frame}.png" for kind in ("blur", "sharp")))
    for split, pairs in find_splits(tmp_path).items():
        assert {split_of(pair.scene, 0.1) for pair in pairs} == {split}
        assert len(pairs) == 3 * len({pair.scene for pair in pairs})


def test_reds_as_published(tmp_path: Path) -> None:
    for theirs in ("train", "val"):
        for kind in ("blur", "sharp"):
            tree(tmp_path, f"{theirs}/{theirs}_{kind}/000/00000007.png")
    assert found(tmp_path) == {
        "train": [("train-000", "00000007.png")],
        "test": [("val-000", "00000007.png")],
    }


@pytest.mark.parametrize("kind", ["J", "R"])
def test_realblur_as_published(tmp_path: Path, kind: str) -> None:
    folder = f"RealBlur-{kind}_ECC_IMCORR_centroid_itensity_ref"
    for scene in ("scene001", "scene002"):
        tree(tmp_path, f"{folder}/{scene}/blur/blur_3.png", f"{folder}/{scene}/gt/gt_3.png")
    for split, scene in (("train", "scene001"), ("test", "scene002")):
        line = f"{folder}/{scene}/gt/gt_3.png {folder}/{scene}/blur/blur_3.png\n"
        (tmp_path / f"RealBlur_{kind}_{split}_list.txt").write_text(line)
    assert found(tmp_path) == {"train": [("scene001", "3.png")], "test": [("scene002", "3.png")]}
    (pair,) = find_pairs(tmp_path, "test")
    assert pair.blur.name == "blur_3.png"
    assert pair.sharp.name == "gt_3.png"


DECLARED = """
hold_out = 0.25

[splits.all]
blur = "input/{scene}_{name}.jpg"
sharp = "target/{scene}_{name}.png"
"""


def test_a_layout_may_be_declared_beside_the_pictures_or_elsewhere(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for number in range(40):
        tree(pictures, f"input/s{number}_1.jpg", f"target/s{number}_1.png")
    (pictures / "layout.toml").write_text(DECLARED)
    inside = find_splits(pictures)
    assert sum(map(len, inside.values())) == 40
    assert len(inside["test"]) > 4
    assert inside["train"][0].blur.suffix == ".jpg"
    (tmp_path / "mine.toml").write_text('root = "pictures"\n' + DECLARED)
    assert find_splits(tmp_path / "mine.toml") == inside
    assert list_data(tmp_path / "mine.toml").layout == "mine.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("splits = 3", "splits = 3: Input should be a valid dictionary"),
        (
            "[splits.all]\nblur = 'a/{name}'",
            "splits.all.sharp = {'blur': 'a/{name}'}: Field required",
        ),
        ("[splits.all]\nblur = 'a/{nam}'\nsharp = 'b/{name}'", "unknown place {nam}"),
        ("[splits.all]\nblur = 'a'\nsharp = 'b/{name}'", "expected one place {name}"),
        ("[splits.training]\nblur='a/{name}'\nsharp='b/{name}'", "expected train, val, test"),
        (
            "hold_ot = 1\n[splits.all]\nblur='a/{name}'\nsharp='b/{name}'",
            "unknown key 'hold_ot'; did you mean 'hold_out'?",
        ),
        ("[splits", "cannot be read as a layout"),
    ],
)
def test_a_layout_that_is_not_valid_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "layout.toml").write_text(text)
    message = refusal(lambda: find_splits(tmp_path))
    assert str(tmp_path / "layout.toml") in message
    assert said in message


def test_a_list_names_pairs_anywhere(tmp_path: Path) -> None:
    tree(tmp_path, "x/1.png", "y/one.png")
    (tmp_path / "pairs.csv").write_text(
        "split,scene,blur,sharp\ntest,street,x/2.png,y/two.png\ntrain,park,x/1.png,"
        f"{tmp_path / 'y' / 'one.png'}\n"
    )
    assert found(tmp_path / "pairs.csv") == {
        "train": [("park", "1.png")],
        "test": [("street", "2.png")],
    }
    (pair,) = find_pairs(tmp_path / "pairs.csv", "train")
    assert (pair.blur, pair.sharp) == (tmp_path / "x" / "1.png", tmp_path / "y" / "one.png")


def test_a_list_without_splits_is_divided(tmp_path: Path) -> None:
    lines = [f"{number}.png,{number}s.png" for number in range(100)]
    (tmp_path / "pairs.csv").write_text("blur,sharp\n" + "\n".join(lines))
    splits = find_splits(tmp_path / "pairs.csv")
    assert list(splits) == ["train", "val", "test"]
    assert sum(map(len, splits.values())) == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with '': expected a first line that names the columns blur and sharp"),
        ("a,b\n1,2\n", "begins with 'a,b': expected a first line"),
        ("blur,sharp\nx.png,\n", "line 2: blur or sharp is empty"),
        ("split,blur,sharp\nholiday,a,b\n", "a split is 'holiday', expected one of train"),
        ("split,blur,sharp\n,a,b\ntrain,c,d\n", "a split is empty, expected one of train"),
    ],
)
def test_a_list_that_is_not_one_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    assert said in refusal(lambda: find_splits(tmp_path / "pairs.csv"))


def test_data_at_an_fsspec_address(tiny_root: Path) -> None:
    address = "memory://bucket/tiny"
    fsspec.filesystem("memory").put(str(tiny_root), "/bucket/tiny", recursive=True)
    assert found(address) == found(tiny_root)
    (here,), (there,) = find_pairs(tiny_root, "val"), find_pairs(address, "val")
    assert str(there.blur) == "memory://bucket/tiny/val/lettering-val/blur/000001.png"
    assert there.blur.read_bytes() == here.blur.read_bytes()
    assert data_kind(address) == "recorded"


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    assert "is not an address that can be read" in refusal(lambda: find_splits("gopher://x/y"))


def test_missing_folder_is_refused_with_the_layouts_and_the_command(tmp_path: Path) -> None:
    message = refusal(lambda: find_splits(tmp_path / "nowhere"))
    assert message.startswith(f"there is no data folder {tmp_path / 'nowhere'}: {EXPECTED}")
    assert message.endswith("make a sample with  deblur data sample")


@pytest.mark.parametrize("file", ["pairs.csv", "layout.toml"])
def test_missing_list_or_layout_is_refused(tmp_path: Path, file: str) -> None:
    assert refusal(lambda: find_splits(tmp_path / file)).startswith("there is no l")


def test_a_folder_without_pairs_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    message = refusal(lambda: find_splits(tmp_path))
    assert message.startswith(f"{tmp_path} holds no pairs of 'blur' and 'sharp' pictures (it holds")
    assert "(it holds nothing)" in message
    tree(tmp_path, *(f"file{number}.png" for number in range(9)))
    message = refusal(lambda: find_splits(tmp_path))
    assert "(it holds file0.png, file1.png, file2.png, file3.png, file4.png)" in message


def test_simulated_blur_is_known_however_the_data_is_named(root: Path) -> None:
    (root.parent / "pairs.csv").write_text(
        "blur,sharp\npairs/val/lettering-val/blur/000001.png,"
        "pairs/val/lettering-val/sharp/000001.png\n"
    )
    (root.parent / "layout.toml").write_text(
        'root = "pairs"\n[splits.val]\nblur = "val/{scene}/blur/{name}"\n'
        'sharp = "val/{scene}/sharp/{name}"'
    )
    named = (root, root / "train", root.parent / "pairs.csv", root.parent / "layout.toml")
    assert [data_kind(data) for data in named] == ["recorded"] * 4
    (root / "dataset.json").write_text('{"kind": "simulated"}')
    assert [data_kind(data) for data in named] == ["simulated"] * 4


def test_an_unfinished_data_set_is_refused(root: Path) -> None:
    (root / "dataset.json").write_text('{"kind": "simulated", "complete": false}')
    assert "is unfinished" in refusal(lambda: find_splits(root))


def test_hidden_folders_and_other_files_are_passed_over(root: Path) -> None:
    scene = root / "train" / "discs-train"
    shutil.copytree(scene, root / "train" / ".trash")
    tree(scene, "blur/notes.txt", "sharp/Thumbs.db", "blur/._000001.png", "sharp/._000001.png")
    assert len(find_pairs(root, "train")) == 4


@pytest.mark.parametrize("subset", ["blur", "blur_gamma"])
def test_the_chosen_blurred_folder_is_taken(root: Path, subset: Averaging) -> None:
    scene = root / "val" / "lettering-val"
    shutil.copytree(scene / "blur", scene / "blur_gamma")
    (pair,) = find_pairs(root / "val", "val", subset)
    assert pair.blur == scene / subset / "000001.png"
    assert pair.sharp == scene / "sharp" / "000001.png"


def test_a_blurred_folder_that_is_not_there_is_refused(root: Path) -> None:
    message = refusal(lambda: find_splits(root, "blur_gamma"))
    assert message.startswith(f"{root} holds no pairs of 'blur_gamma' and 'sharp' pictures")


@pytest.mark.parametrize(("lost", "left"), [("sharp", "blur"), ("blur", "sharp")])
def test_unpaired_picture_is_refused_with_both_paths(root: Path, lost: str, left: str) -> None:
    scene = root / "train" / "masonry-train"
    (scene / lost / "000002.png").unlink()
    message = refusal(lambda: find_splits(root))
    assert message.startswith(
        f"{scene / left / '000002.png'} has no counterpart {scene / lost / '000002.png'}: "
    )
    assert message.endswith("add it, or remove this one")
    (lone,) = list_data(root).unpaired
    assert (lone.picture, lone.expected) == (
        scene / left / "000002.png",
        scene / lost / "000002.png",
    )


def test_a_scene_without_its_sharp_folder_is_refused_with_the_first_picture(root: Path) -> None:
    scene = root / "train" / "masonry-train"
    shutil.rmtree(scene / "sharp")
    message = refusal(lambda: find_splits(root))
    assert str(scene / "sharp" / "000001.png") in message
    assert "(and 1 more lack theirs)" in message


def test_missing_split_is_named_with_those_that_are_there(root: Path) -> None:
    shutil.rmtree(root / "val")
    message = refusal(lambda: find_pairs(root, "val"))
    assert message == f"{root} has no split 'val', only train, test"
