"""``deblur data``: from photographs and videos to prepared data, and what is said on the way."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from deblur.data.listing import find_splits
from deblur.data.manifest import read_manifest
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.scenes import discs, gratings, lettering, masonry
from deblur.images import read_rgb
from tests.data.synthesis.videos import encode, sliding
from tests.test_cli import deblur


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_photographs_become_pairs_that_are_validated_prepared_and_compared(
    workplace: Path,
) -> None:
    (workplace / "photos").mkdir()
    for number, draw in enumerate((masonry, discs, lettering, gratings)):
        drawn = draw(generator(number, Stream.SCENE, 0))
        drawn.resize((280, 210)).save(workplace / "photos" / f"{draw.__name__}.png")
    settings = ["--set", "per_photo=2", "--set", "longest=8", "--set", "smallest_side=128"]
    code, said = deblur("data", "synthesize", "mine", "--from", "photos", *settings)
    assert code == 0, said
    assert "made mine: 4 train, 2 val, 2 test pairs, simulated blur" in said

    code, said = deblur("data", "validate", "mine", "--crop", "64")
    assert code == 0, said
    assert "usable: 0 errors, 0 warnings; validation/mine-blur/report.html" in said
    report = json.loads((workplace / "validation" / "mine-blur" / "report.json").read_text())
    assert report["usable"] is True
    assert report["pairs"] == {"train": 4, "val": 2, "test": 2}

    code, said = deblur("data", "prepare", "mine")
    assert code == 0, said
    digest = read_manifest(workplace / "prepared" / "mine-blur").digest
    assert "prepared/mine-blur: 4 train, 2 val, 2 test pairs of simulated blur" in said
    assert f"version {digest[:12]}" in said

    file = next((workplace / "mine" / "test").rglob("blur/000002.png"))
    Image.fromarray(255 - read_rgb(file)).save(file)
    deblur("data", "prepare", "mine", "--out", "newer")
    code, said = deblur("data", "diff", "prepared/mine-blur", "newer/manifest.json")
    assert code == 1
    assert f"~ test/{file.parents[1].name}/000002.png" in said
    assert "0 added, 0 removed, 1 changed, 0 moved" in said
    code, said = deblur("data", "diff", "prepared/mine-blur", "newer", "--json")
    assert json.loads(said)["changed"] == [f"test/{file.parents[1].name}/000002.png"]
    assert deblur("data", "diff", "newer", "newer") == (0, "the versions are equal ")


def test_a_video_becomes_pairs_that_the_report_shows(workplace: Path) -> None:
    encode(workplace / "ride.mp4", sliding(40, 1), fps=240)
    code, said = deblur("data", "synthesize", "ride", "--from", "ride.mp4")
    assert code == 0, said
    assert "simulated blur" in said
    assert "no pairs fell to val and test" in said
    pairs = [pair for pairs in find_splits(workplace / "ride").values() for pair in pairs]
    assert len(pairs) >= 3
    code, said = deblur("data", "validate", "ride", "--crop", "64")
    assert "warning no_test" in said
    page = (workplace / "validation" / "ride-blur" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 4
    assert pairs[0].scene in page


def test_data_that_cannot_be_used_is_said_by_check_and_ends_with_2(
    workplace: Path, tiny_root: Path
) -> None:
    root = shutil.copytree(tiny_root, workplace / "bad")
    scene = root / "train" / "masonry-train"
    (scene / "sharp" / "000001.png").unlink()
    (scene / "blur" / "000002.png").write_bytes(b"")
    code, said = deblur("data", "validate", "bad", "--crop", "64")
    assert code == 2
    assert "error unpaired: " in said
    assert "error unreadable: " in said
    assert "000002.png is empty" in said
    assert "cannot be trained on: 2 errors" in said
    code, said = deblur("train", "bad", "--out", "runs/x", "--set", "patch_size=64")
    assert code == 2
    assert "cannot be trained on, 2 errors" in said
    assert not (workplace / "runs" / "x").exists()


def test_rules_are_set_on_the_command_line(workplace: Path, tiny_root: Path) -> None:
    rules = ["--set", "psnr_low.threshold=60", "--set", "psnr_low.severity=error"]
    code, said = deblur("data", "validate", tiny_root, "--crop", "64", *rules)
    assert code == 2
    assert "error psnr_low" in said


def test_drift_is_seen_against_prepared_data(
    workplace: Path, tiny_root: Path, tiny_data: Path
) -> None:
    code, said = deblur("data", "validate", tiny_root, "--crop", "64", "--reference", tiny_data)
    assert code == 0, said
    assert "drift" not in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["validate", "nowhere"], "there is no data folder nowhere"),
        (["validate", ".", "--set", "dark.limit=3"], "unknown key 'dark.limit'"),
        (["validate", ".", "--subset", "sharp"], "expected blur or blur_gamma"),
        (["prepare", "pairs.csv"], "there is no list pairs.csv"),
        (["diff", "a", "b"], "a is not a prepared data set"),
        (["synthesize", "out", "--from", "nothing"], "there is nothing at"),
        (["synthesize", "out", "--from", "x.mp4"], "there is no video or folder"),
        (["synthesize", "out", "--from", ".", "--set", "longer=3"], "did you mean 'longest'"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    workplace: Path, args: list[str], message: str
) -> None:
    code, said = deblur("data", *args)
    assert (code, message in said) == (2, True), said
    assert "Traceback" not in said
    assert list(workplace.iterdir()) == []
