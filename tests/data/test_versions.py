"""Two versions of a data set, compared."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from deblur.data.manifest import Manifest, read_manifest
from deblur.data.prepare import describe, prepare
from deblur.data.versions import Difference, compare
from deblur.images import read_rgb


@pytest.fixture
def old(tiny_data: Path) -> Manifest:
    return read_manifest(tiny_data)


def test_equal_versions_do_not_differ(tiny_root: Path, old: Manifest) -> None:
    assert not compare(old, describe(tiny_root))


def test_every_kind_of_change_is_named(root: Path, old: Manifest, tmp_path: Path) -> None:
    train = root / "train"
    for kind in ("blur", "sharp"):
        shutil.rmtree(root / "val" / "lettering-val" / kind)
        picture = read_rgb(train / "masonry-train" / kind / "000001.png")
        Image.fromarray(picture[::-1]).save(train / "masonry-train" / kind / "000009.png")
        (root / "test" / "discs-test" / kind).mkdir(parents=True)
        (train / "discs-train" / kind / "000002.png").rename(
            root / "test" / "discs-test" / kind / "000002.png"
        )
    blurred = train / "discs-train" / "blur" / "000001.png"
    Image.fromarray(255 - read_rgb(blurred)).save(blurred)
    difference = compare(old, prepare(root, tmp_path / "prepared"))
    assert difference == Difference(
        added=("train/masonry-train/000009.png",),
        removed=("val/lettering-val/000001.png",),
        changed=("train/discs-train/000001.png",),
        moved=(("train/discs-train/000002.png", "test/discs-test/000002.png"),),
        settings=(),
    )


def test_another_subset_is_said(root: Path, old: Manifest) -> None:
    for scene in root.glob("*/*"):
        shutil.copytree(scene / "blur", scene / "blur_gamma")
    (root / "dataset.json").write_text('{"kind": "simulated"}')
    difference = compare(old, describe(root, "blur_gamma"))
    assert difference.settings == (
        "subset was blur, is now blur_gamma",
        "kind was recorded, is now simulated",
    )
    assert not (difference.added or difference.changed or difference.moved)
