"""Prepared data: the same pixels, made once, never half."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deblur.data.pairs import (
    MANIFEST,
    FolderPairs,
    PreparedPairs,
    available_splits,
    open_pairs,
    read_manifest,
)
from deblur.data.prepare import prepare
from deblur.digests import file_sha256
from deblur.errors import DataError, PictureError
from deblur.images import read_rgb

SPLITS = ("train", "val", "test")


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that may be changed."""
    return shutil.copytree(tiny_root, tmp_path / "pairs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def assert_equals_pictures(out: Path, root: Path) -> None:
    """Every pair of the prepared folder has the pixels of its files, split by split."""
    for split in SPLITS:
        pairs = open_pairs(out, split)
        assert isinstance(pairs, PreparedPairs)
        assert len(pairs) == (4 if split == "train" else 1)
        for index in range(len(pairs)):
            scene = root / split / pairs.scenes[index]
            blurred, sharp = pairs.read(index)
            np.testing.assert_array_equal(blurred, read_rgb(scene / "blur" / pairs.names[index]))
            np.testing.assert_array_equal(sharp, read_rgb(scene / "sharp" / pairs.names[index]))
            assert pairs.size(index) == sharp.shape[:2]


def test_prepared_pixels_equal_the_pictures(tiny_data: Path, tiny_root: Path) -> None:
    assert_equals_pictures(tiny_data, tiny_root)


def test_manifest_names_the_source_of_every_pair(tiny_data: Path, tiny_root: Path) -> None:
    manifest = read_manifest(tiny_data)
    assert manifest["subset"] == "blur"
    assert manifest["kind"] == "recorded"  # the tiny set has no dataset.json
    assert list(manifest["splits"]) == list(SPLITS) == available_splits(tiny_data)
    offset = 0
    for entry in manifest["splits"]["train"]:
        scene = tiny_root / "train" / entry["scene"]
        assert entry["blur_sha256"] == file_sha256(scene / "blur" / entry["name"])
        assert entry["sharp_sha256"] == file_sha256(scene / "sharp" / entry["name"])
        assert entry["offset"] == offset
        offset += 2 * entry["height"] * entry["width"] * 3
    assert np.load(tiny_data / "train.npy", mmap_mode="r").shape == (offset,)


@pytest.mark.parametrize(
    ("description", "kind"),
    [('{"kind": "simulated"}', "simulated"), ("{}", "recorded"), ("damaged", "recorded")],
)
def test_kind_is_that_of_the_description(
    root: Path, out: Path, description: str, kind: str
) -> None:
    (root / "dataset.json").write_text(description)
    assert prepare(root, out)["kind"] == kind


def test_second_prepare_leaves_the_files_untouched(root: Path, out: Path) -> None:
    first = prepare(root, out)
    before = times(out)
    assert prepare(root, out) == first
    assert times(out) == before
    assert set(before) == {MANIFEST, "train.npy", "val.npy", "test.npy"}


def test_digest_does_not_depend_on_where_the_data_lies(
    tiny_root: Path, tiny_data: Path, root: Path, out: Path
) -> None:
    assert prepare(root, out)["digest"] == read_manifest(tiny_data)["digest"]


def test_a_changed_picture_changes_the_digest_and_the_map(root: Path, out: Path) -> None:
    first = prepare(root, out)
    file = root / "train" / "discs-train" / "blur" / "000001.png"
    changed = 255 - read_rgb(file)
    Image.fromarray(changed).save(file)
    second = prepare(root, out)
    assert second["digest"] != first["digest"]
    assert read_manifest(out) == second
    np.testing.assert_array_equal(open_pairs(out, "train").read(0)[0], changed)
    assert_equals_pictures(out, root)


def test_the_other_blurred_folder_is_prepared_anew(root: Path, out: Path) -> None:
    for split in SPLITS:
        for scene in (root / split).iterdir():
            shutil.copytree(scene / "sharp", scene / "blur_gamma")
    first = prepare(root, out)
    second = prepare(root, out, "blur_gamma")
    assert second["subset"] == "blur_gamma"
    assert second["digest"] != first["digest"]
    blurred, sharp = open_pairs(out, "val", "blur_gamma").read(0)
    np.testing.assert_array_equal(blurred, sharp)


def test_interrupted_prepare_leaves_no_manifest_and_is_completed(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(root, out)  # an older state, which must not pass for the new one
    file = root / "train" / "discs-train" / "blur" / "000001.png"
    Image.fromarray(255 - read_rgb(file)).save(file)
    read = FolderPairs.read

    def interrupted(self: FolderPairs, index: int, box: Any = None) -> Any:
        if self.scenes[index] == "lettering-val":
            raise KeyboardInterrupt
        return read(self, index, box)

    with monkeypatch.context() as patch:
        patch.setattr(FolderPairs, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, out)
    assert not (out / MANIFEST).exists()
    assert sorted(p.name for p in out.iterdir()) == ["test.npy", "train.npy", "val.npy"]

    manifest = prepare(root, out)
    assert read_manifest(out) == manifest
    assert_equals_pictures(out, root)


def test_a_lost_map_is_made_again(root: Path, out: Path) -> None:
    first = prepare(root, out)
    (out / "val.npy").unlink()
    assert prepare(root, out) == first
    assert_equals_pictures(out, root)


@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 64), slice(0, 64)),
        (slice(7, 40), slice(31, 32)),
        (slice(20, None), slice(None, -5)),
    ],
)
@pytest.mark.parametrize("prepared", [True, False])
def test_a_crop_equals_the_slice_of_the_whole_picture(
    tiny_data: Path, tiny_root: Path, box: tuple[slice, slice], prepared: bool
) -> None:
    pairs = open_pairs(tiny_data if prepared else tiny_root, "train")
    for index in range(len(pairs)):
        for whole, crop in zip(pairs.read(index), pairs.read(index, box), strict=True):
            assert 0 < crop.size < whole.size
            np.testing.assert_array_equal(crop, whole[box])


def test_what_is_read_may_be_changed_without_changing_the_map(tiny_data: Path) -> None:
    pairs = open_pairs(tiny_data, "val")
    blurred, _ = pairs.read(0)
    original = blurred.copy()
    blurred[:] = 0
    np.testing.assert_array_equal(pairs.read(0)[0], original)


def test_pickled_pairs_do_not_carry_the_pixels_and_still_read(tiny_data: Path) -> None:
    pairs = open_pairs(tiny_data, "train")
    blurred, sharp = pairs.read(3)  # opens the map
    pickled = pickle.dumps(pairs)
    assert len(pickled) < 4000 < (tiny_data / "train.npy").stat().st_size // 20
    again = pickle.loads(pickled)
    assert len(again) == 4
    np.testing.assert_array_equal(again.read(3)[0], blurred)
    np.testing.assert_array_equal(again.read(3)[1], sharp)
    np.testing.assert_array_equal(pairs.read(3)[1], sharp)  # the original reads on


def test_pictures_turned_by_exif_are_prepared_upright(root: Path, out: Path) -> None:
    scene = root / "val" / "lettering-val"
    exif = Image.Exif()
    exif[0x0112] = 6  # a telephone held upright
    for folder in ("blur", "sharp"):
        with Image.open(scene / folder / "000001.png") as image:
            image.save(scene / folder / "000001.jpg", quality=95, exif=exif)
        (scene / folder / "000001.png").unlink()
    prepare(root, out)
    height, width = open_pairs(out, "val").size(0)
    assert height > width
    assert_equals_pictures(out, root)


def test_a_differently_sized_pair_is_refused_with_both_sizes(root: Path, out: Path) -> None:
    file = root / "test" / "lettering-test" / "sharp" / "000001.png"
    height, width = read_rgb(file).shape[:2]
    Image.fromarray(read_rgb(file)[2:]).save(file)
    with pytest.raises(DataError, match="differ in size") as raised:
        prepare(root, out)
    assert f"({height}, {width}) and ({height - 2}, {width})" in str(raised.value)
    assert not (out / MANIFEST).exists()


@pytest.mark.parametrize("folder", ["blur", "sharp"])
@pytest.mark.parametrize("content", [b"", b"not a picture", None], ids=["empty", "text", "cut"])
def test_a_damaged_picture_is_refused_with_its_name(
    root: Path, out: Path, folder: str, content: bytes | None
) -> None:
    file = root / "train" / "masonry-train" / folder / "000002.png"
    file.write_bytes(file.read_bytes()[:-500] if content is None else content)
    with pytest.raises(PictureError, match="expected") as raised:
        prepare(root, out)
    assert str(raised.value).startswith(str(file))
    assert not (out / MANIFEST).exists()


DAMAGED = {
    "cut": '{"format": 1, "subset"',
    "empty": "",
    "binary": "\udcff\udcfe",
    "a list": "[1, 2]",
    "foreign": '{"name": "my web page", "start_url": "/"}',
    "of another format": '{"format": 99, "splits": {}}',
    "without splits": '{"format": 1}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_or_foreign_manifest_is_refused_and_kept(
    root: Path, out: Path, content: str
) -> None:
    out.mkdir()
    file = out / MANIFEST
    file.write_bytes(content.encode(errors="surrogateescape"))
    for read in (
        lambda: read_manifest(out),
        lambda: open_pairs(out, "train"),
        lambda: available_splits(out),
        lambda: prepare(root, out),  # it may be another program's
    ):
        with pytest.raises(DataError) as raised:
            read()
        assert str(raised.value).startswith(f"{file} ")
        assert str(raised.value).endswith("delete it and prepare the data again")
    assert file.read_bytes() == content.encode(errors="surrogateescape")
    assert times(out).keys() == {MANIFEST}

    file.unlink()
    prepare(root, out)
    assert_equals_pictures(out, root)


def test_a_split_that_was_not_prepared_is_named_with_those_that_were(
    tiny_data: Path, tmp_path: Path
) -> None:
    manifest = json.loads((tiny_data / MANIFEST).read_text(encoding="utf-8"))
    del manifest["splits"]["val"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="has no split 'val', only train, test"):
        open_pairs(tmp_path, "val")


def test_an_unprepared_split_or_its_folder_is_opened_alike(tiny_root: Path) -> None:
    by_split, by_folder = open_pairs(tiny_root, "val"), open_pairs(tiny_root / "val", "val")
    assert isinstance(by_split, FolderPairs)
    assert by_split.names == by_folder.names == ["000001.png"]
    np.testing.assert_array_equal(by_split.read(0)[0], by_folder.read(0)[0])


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_map_that_does_not_fit_its_manifest_is_refused(
    tiny_root: Path, tmp_path: Path, damage: str
) -> None:
    prepare(tiny_root, tmp_path / "out")
    file = tmp_path / "out" / "test.npy"
    if damage == "missing":
        file.unlink()
    else:
        np.save(file, np.load(file)[:-1])
    with pytest.raises(DataError, match=r"test\.npy .*prepare the data again"):
        open_pairs(tmp_path / "out", "test").read(0)


def test_data_prepared_from_one_subset_is_not_taken_for_the_other(tiny_data: Path) -> None:
    with pytest.raises(DataError, match="was prepared from 'blur', but 'blur_gamma' is asked for"):
        open_pairs(tiny_data, "test", "blur_gamma")
