"""Pairs are opened and read alike from pictures and from shards, and damage is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from deblur.data.manifest import MANIFEST, Manifest, read_manifest
from deblur.data.pairs import FolderPairs, open_pairs
from deblur.data.prepare import prepare
from deblur.errors import DataError
from tests.data.test_prepare import assert_equals_pictures, shard


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


def test_what_is_read_cannot_change_the_map(tiny_data: Path) -> None:
    blurred, _ = open_pairs(tiny_data, "val").read(0)
    with pytest.raises(ValueError, match="read-only"):
        blurred[:] = 0


def test_pickled_pairs_do_not_carry_the_pixels_and_still_read(tiny_data: Path) -> None:
    pairs = open_pairs(tiny_data, "train")
    blurred, sharp = pairs.read(3)  # opens the map
    pickled = pickle.dumps(pairs)
    assert len(pickled) < 4000 < shard(tiny_data, "train").stat().st_size // 20
    again = pickle.loads(pickled)
    assert len(again) == 4
    np.testing.assert_array_equal(again.read(3)[0], blurred)
    np.testing.assert_array_equal(again.read(3)[1], sharp)
    np.testing.assert_array_equal(pairs.read(3)[1], sharp)  # the original reads on


def test_a_manifest_that_was_edited_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    manifest = json.loads((tiny_data / MANIFEST).read_text(encoding="utf-8"))
    manifest["splits"]["test"]["pairs"][0]["scene"] = "another"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="was changed, its digest does not fit"):
        read_manifest(tmp_path)


def test_a_split_that_was_not_prepared_is_named_with_those_that_were(
    tiny_data: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(tiny_data)
    splits = {s: e for s, e in manifest.splits.items() if s != "val"}
    Manifest(**{**vars(manifest), "splits": splits}).write(tmp_path)
    with pytest.raises(DataError, match="has no split 'val', only train, test"):
        open_pairs(tmp_path, "val")


def test_an_unprepared_split_or_its_folder_is_opened_alike(tiny_root: Path) -> None:
    by_split, by_folder = open_pairs(tiny_root, "val"), open_pairs(tiny_root / "val", "val")
    assert isinstance(by_split, FolderPairs)
    assert by_split.names == by_folder.names == ["000001.png"]
    np.testing.assert_array_equal(by_split.read(0)[0], by_folder.read(0)[0])


@pytest.mark.parametrize("damage", ["missing", "cut", "shorter", "of floats"])
def test_a_shard_that_does_not_fit_its_manifest_is_refused_on_opening(
    tiny_root: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    prepare(tiny_root, out)
    file = shard(out, "test")
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-500])
    else:
        pixels = np.load(file)
        np.save(file, pixels[:-1] if damage == "shorter" else pixels.astype(np.float32))
    with pytest.raises(DataError, match=r"test-\w+\.npy .*prepare the data again"):
        open_pairs(out, "test")
    prepare(tiny_root, out)
    assert_equals_pictures(out, tiny_root)


def test_data_prepared_from_one_subset_is_not_taken_for_the_other(tiny_data: Path) -> None:
    with pytest.raises(DataError, match="was prepared from 'blur', but 'blur_gamma' is asked for"):
        open_pairs(tiny_data, "test", "blur_gamma")
