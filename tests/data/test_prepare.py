"""Prepared data: the same pixels, made once, never half."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from deblur.data import prepare as preparation
from deblur.data.manifest import MANIFEST, read_manifest
from deblur.data.pairs import PreparedPairs, data_kind, open_pairs
from deblur.data.prepare import describe, prepare
from deblur.data.shards import write_shard
from deblur.digests import file_sha256
from deblur.errors import DataError, PictureError
from deblur.images import read_rgb

SPLITS = ("train", "val", "test")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def times(folder: Path) -> dict[str, int]:
    return {f.name: f.stat().st_mtime_ns for f in folder.iterdir() if f.name != ".lock"}


def shard(out: Path, split: str) -> Path:
    (entry,) = read_manifest(out).splits[split].shards
    return out / entry.file


def repaint(root: Path) -> np.ndarray:
    """Change the first training pair's blurred picture; its new pixels."""
    file = root / "train" / "discs-train" / "blur" / "000001.png"
    changed = 255 - read_rgb(file)
    Image.fromarray(changed).save(file)
    return changed


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pairs that are decoded from now on, but for those that only tell size and time."""
    seen: list[str] = []

    def watched(folder: Path, split: str, pairs: Iterable[Any]) -> Any:
        entries, made = write_shard(folder, split, pairs)
        seen.extend(f"{split}/{entry.scene}/{entry.name}" for entry in entries)
        return entries, made

    monkeypatch.setattr(preparation, "write_shard", watched)
    return seen


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
    assert (manifest.subset, manifest.layout, manifest.source) == ("blur", "gopro", str(tiny_root))
    assert manifest.kind == data_kind(tiny_data) == "recorded"  # the tiny set has no dataset.json
    assert list(manifest.splits) == list(SPLITS)
    for split, entries in manifest.splits.items():
        for entry in entries.pairs:
            scene = tiny_root / split / entry.scene
            assert entry.blur_sha256 == file_sha256(scene / "blur" / entry.name)
            assert entry.sharp_sha256 == file_sha256(scene / "sharp" / entry.name)
        (file,) = entries.shards
        assert file.pairs == len(entries.pairs)
        assert file.bytes == sum(entry.bytes for entry in entries.pairs)
        raw = np.load(tiny_data / file.file, mmap_mode="r")
        assert raw.shape == (file.bytes,)
    written = json.loads((tiny_data / MANIFEST).read_text(encoding="utf-8"))
    assert written["digest"] == manifest.digest
    assert written["splits"]["val"]["digest"] == manifest.splits["val"].digest


def test_the_digest_is_that_of_the_pictures_prepared_or_not(
    tiny_data: Path, tiny_root: Path
) -> None:
    described, prepared = describe(tiny_root), read_manifest(tiny_data)
    assert described.digest == prepared.digest == describe(tiny_data).digest
    assert {s: e.pairs for s, e in described.splits.items()} == {
        s: e.pairs for s, e in prepared.splits.items()
    }


@pytest.mark.parametrize(
    ("description", "kind"),
    [('{"kind": "simulated"}', "simulated"), ("{}", "recorded"), ("damaged", "recorded")],
)
def test_kind_is_that_of_the_description(
    root: Path, out: Path, description: str, kind: str
) -> None:
    (root / "dataset.json").write_text(description)
    assert prepare(root, out).kind == kind


def test_second_prepare_leaves_the_files_untouched(root: Path, out: Path) -> None:
    first = prepare(root, out)
    before = times(out)
    assert prepare(root, out) == first
    assert times(out) == before
    shards = {shard(out, split).name for split in SPLITS}
    assert set(before) == {MANIFEST, "sources.jsonl", *shards}


def test_digest_does_not_depend_on_where_the_data_lies(
    tiny_root: Path, tiny_data: Path, root: Path, out: Path
) -> None:
    assert prepare(root, out).digest == read_manifest(tiny_data).digest


def test_a_changed_picture_changes_the_digest_and_its_shard_alone(
    root: Path, out: Path, decoded: list[str]
) -> None:
    first, old, before = prepare(root, out), shard(out, "train"), times(out)
    decoded.clear()
    changed = repaint(root)
    second = prepare(root, out)
    assert second.digest != first.digest
    assert read_manifest(out) == second
    assert {name.split("/")[0] for name in decoded} == {"train"}
    assert not old.exists(), "what the manifest no longer names is removed"
    assert times(out)[shard(out, "val").name] == before[shard(out, "val").name]
    np.testing.assert_array_equal(open_pairs(out, "train").read(0)[0], changed)
    assert_equals_pictures(out, root)


def test_a_picture_more_or_less_leaves_most_shards_as_they_are(
    tiny_root: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "pairs", tmp_path / "prepared"
    for number in range(60):
        for kind in ("blur", "sharp"):
            (root / "train" / "a" / kind).mkdir(parents=True, exist_ok=True)
            picture = np.full((8, 8, 3), 4 * number + (kind == "blur"), np.uint8)
            Image.fromarray(picture).save(root / "train" / "a" / kind / f"{number:03d}.png")
    monkeypatch.setattr("deblur.data.shards.SHARD_PAIRS", 6)
    assert len(prepare(root, out).splits["train"].shards) > 5
    decoded.clear()
    for kind in ("blur", "sharp"):
        (root / "train" / "a" / kind / "031.png").unlink()
        Image.new("RGB", (8, 8)).save(root / "train" / "a" / kind / "010x.png")
    manifest = prepare(root, out)
    assert len(manifest.splits["train"].pairs) == 60
    assert 0 < len(decoded) < 40
    pairs = open_pairs(out, "train")
    for index, name in enumerate(pairs.names):
        shade = 0 if name == "010x.png" else 4 * int(name[:3])
        assert [int(picture.max()) for picture in pairs.read(index)] == (
            [0, 0] if name == "010x.png" else [shade + 1, shade]
        )


def test_the_other_blurred_folder_is_prepared_anew(root: Path, out: Path) -> None:
    for split in SPLITS:
        for scene in (root / split).iterdir():
            shutil.copytree(scene / "sharp", scene / "blur_gamma")
    first = prepare(root, out)
    second = prepare(root, out, "blur_gamma")
    assert second.subset == "blur_gamma"
    assert second.digest != first.digest
    blurred, sharp = open_pairs(out, "val", "blur_gamma").read(0)
    np.testing.assert_array_equal(blurred, sharp)


def test_an_interrupted_update_leaves_the_old_version_and_is_completed(
    root: Path, out: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = prepare(root, out)
    repaint(root)
    (root / "val" / "lettering-val" / "blur" / "000001.png").touch()  # looks changed, is not
    read = preparation._read

    def interrupted(pair: Any) -> Any:
        if pair.scene == "lettering-val":
            raise KeyboardInterrupt
        return read(pair)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_read", interrupted)
        patch.setattr(preparation, "_announce", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, out)
    assert read_manifest(out) == old
    assert len(open_pairs(out, "train")) == 4, "the old version is still whole"
    assert not list(out.glob(".*partial"))

    decoded.clear()
    manifest = prepare(root, out)
    assert all(name.startswith("val/") for name in decoded), "what was done is not done again"
    assert read_manifest(out) == manifest
    assert_equals_pictures(out, root)


def test_a_picture_that_changes_while_it_is_read_is_read_again(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = preparation._read

    def changed_meanwhile(pair: Any) -> Any:
        result = read(pair)
        if pair.scene == "lettering-val":
            Image.fromarray(255 - read_rgb(pair.blur)).save(pair.blur)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_read", changed_meanwhile)
        patch.setattr(preparation, "_announce", lambda *_: None)
        prepare(root, out)
    prepare(root, out)
    assert_equals_pictures(out, root)


def test_a_listed_picture_that_is_gone_is_refused_by_name(tiny_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_root, tmp_path / "pairs")
    scene = root / "val" / "lettering-val"
    listed = tmp_path / "pairs.csv"
    blur, sharp = scene / "blur" / "000001.png", scene / "sharp" / "000001.png"
    listed.write_text(f"split,blur,sharp\ntrain,{blur},{sharp}\n")
    prepare(listed, tmp_path / "out")
    sharp.unlink()
    with pytest.raises(DataError, match="does not exist: restore it, or remove it from the list"):
        prepare(listed, tmp_path / "out")


def test_what_a_killed_run_left_is_swept(root: Path, out: Path) -> None:
    out.mkdir()
    for name in ("building.npy", ".building.npy.77.partial", ".manifest.json.9.partial"):
        (out / name).write_bytes(b"half")
    prepare(root, out)
    assert not [f.name for f in out.iterdir() if "building" in f.name or "partial" in f.name]


def test_a_lost_shard_is_made_again(root: Path, out: Path) -> None:
    first = prepare(root, out)
    shard(out, "val").unlink()
    assert prepare(root, out) == first
    assert_equals_pictures(out, root)


def test_verify_finds_and_mends_a_shard_whose_content_was_changed(root: Path, out: Path) -> None:
    first = prepare(root, out)
    file = shard(out, "val")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert prepare(root, out) == first
    assert file.read_bytes() == content, "only its size is looked at without verify"
    assert prepare(root, out, verify=True) == first
    assert_equals_pictures(out, root)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_damaged_notes_on_the_sources_only_cost_time(root: Path, out: Path, content: str) -> None:
    first = prepare(root, out)
    (out / "sources.jsonl").write_text(content)
    assert prepare(root, out) == first


def test_two_at_once_into_one_folder_are_refused(root: Path, out: Path) -> None:
    out.mkdir()
    with (
        FileLock(out / ".lock"),
        pytest.raises(DataError, match="another process is preparing data into"),
    ):
        prepare(root, out)


def test_what_does_not_fit_on_the_disk_is_refused_before_anything_is_written(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"has 0\.0 GB free, and the prepared data needs about"):
        prepare(root, out)
    assert times(out) == {}


def test_size_and_time_are_told_before_starting(
    root: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "deblur"):
        prepare(root, out)
        prepare(root, out)
    told = [record.message for record in caplog.records if "preparing" in record.message]
    assert len(told) == 1, "nothing to do, nothing to tell"
    assert told[0].startswith(f"preparing 6 of 6 pairs (gopro layout) into {out}: about 0.00 GB")


def test_data_at_an_address_is_prepared_like_a_folder(
    tiny_root: Path, tiny_data: Path, out: Path, decoded: list[str]
) -> None:
    fsspec.filesystem("memory").put(str(tiny_root), "/prepare/tiny", recursive=True)
    manifest = prepare("memory://prepare/tiny", out)
    assert manifest.digest == read_manifest(tiny_data).digest
    assert_equals_pictures(out, tiny_root)


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
    with pytest.raises(DataError, match="both must have the same size") as raised:
        prepare(root, out)
    assert f"is {width}x{height}, but its sharp picture is {width}x{height - 2}" in str(
        raised.value
    )
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
    "cut": '{"format": 2, "subset"',
    "empty": "",
    "binary": "\udcff\udcfe",
    "a list": "[1, 2]",
    "foreign": '{"name": "my web page", "start_url": "/"}',
    "of another format": '{"format": 99, "splits": {}}',
    "of the format before": '{"format": 1, "splits": {}}',
    "without splits": '{"format": 2}',
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
        lambda: data_kind(out),
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
