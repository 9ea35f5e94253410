"""Versions, their tags and files; aliases that survive a crash."""

import json
from pathlib import Path

import pytest

from deblur import champion as moving
from deblur.champion import make_champion, roll_back
from deblur.contract import INPUT
from deblur.digests import file_sha256
from deblur.errors import ModelFileError, SetupError
from deblur.registry import (
    CHAMPION,
    PREVIOUS,
    Version,
    alias_holder,
    fetch_model,
    find_version,
    keep_files,
    list_versions,
    read_file,
    set_alias,
)
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting, read_setting, setting_file
from deblur.tuning.attach import attach_tuning
from tests.gates.planted import MILD, Sharpening, planted_file, planted_pairs, registered

TUNED = Setting(tile=96, overlap=32, threads=1)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``prepared`` pairs and ``mild.onnx``."""
    folder = tmp_path_factory.mktemp("planted")
    planted_file(Sharpening(MILD), planted_pairs(folder, 2), folder / "mild.onnx")
    return folder


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs. Making its tables takes most of the time of a test."""
    folder = tmp_path_factory.mktemp("blank")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        assert list_versions() == []
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, blank: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an empty registry."""
    (tmp_path / "mlflow.db").write_bytes(blank.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}")
    return tmp_path


@pytest.fixture
def versions(store: Path, planted: Path) -> list[Version]:
    """Three versions, the oldest first."""
    return [registered(planted / "mild.onnx", planted / "prepared") for _ in range(3)]


def holders() -> tuple[int | None, int | None]:
    champion, previous = alias_holder(CHAMPION), alias_holder(PREVIOUS)
    return (
        champion.version if champion else None,
        previous.version if previous else None,
    )


def test_a_version_carries_what_its_file_says(store: Path, planted: Path) -> None:
    version = registered(planted / "mild.onnx", planted / "prepared")
    contract = Engine(planted / "mild.onnx").contract
    assert (version.version, version.aliases) == (1, ("candidate",))
    assert version.tags["sha256"] == file_sha256(planted / "mild.onnx")
    assert version.tags["data.digest"] == contract.data_digest
    assert version.tags["data.subset"] == "blur"
    assert version.tags["config.digest"] == "0" * 64
    assert version.tags["code.revision"] == "planted"
    assert version.figures["test_psnr"] == pytest.approx(contract.metrics["test_psnr"], abs=5e-5)
    assert version.setting is None


def test_the_newest_is_the_candidate_and_the_first_in_the_list(versions: list[Version]) -> None:
    assert [v.version for v in list_versions()] == [3, 2, 1]
    assert find_version("@candidate").version == 3
    assert find_version("2").aliases == ()
    assert find_version("models:/deblur-unet/1").run_id == versions[0].run_id
    assert versions[0].run_id != versions[1].run_id


def test_what_is_not_registered_is_said_with_what_to_do(versions: list[Version]) -> None:
    for reference, message in (
        ("9", "cannot fetch models:/deblur-unet/9"),
        ("@nobody", "cannot fetch models:/deblur-unet@nobody"),
        ("models:/none@candidate", "cannot fetch models:/none@candidate"),
        ("model.onnx", "names no registered model: expected a version as 3"),
    ):
        with pytest.raises(ModelFileError, match=message):
            find_version(reference)


def test_files_of_a_version_are_found_again(versions: list[Version], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("größer", encoding="utf-8")
    keep_files(versions[1], notes, "notes")
    assert read_file(versions[1], "versions/2/notes/a.md") == "größer"
    assert read_file(versions[1], "versions/2/notes/b.md") is None
    assert read_file(versions[0], "versions/1/notes/a.md") is None


def test_an_untuned_version_is_fetched_without_a_setting(
    versions: list[Version], store: Path, planted: Path
) -> None:
    out = store / "fetched" / "model.onnx"
    out.parent.mkdir()
    setting_file(out).write_text("of an earlier model")
    assert fetch_model("models:/deblur-unet@candidate", out) == out
    assert out.read_bytes() == (planted / "mild.onnx").read_bytes()
    assert [p.name for p in out.parent.iterdir()] == ["model.onnx"]


def test_a_tuned_version_is_fetched_with_its_setting_and_served_by_it(
    versions: list[Version], store: Path
) -> None:
    tuning = store / "tuning"
    tuning.mkdir()
    found = {"speed_up": 2.5, "choice": {"ms_per_mp": 80.0}, "machine": {"cpu": "a fast one"}}
    (tuning / "tuning.json").write_text(json.dumps(found))
    before = versions[2].figures["test_psnr"]
    version = attach_tuning("models:/deblur-unet/3", tuning, TUNED, {"test_psnr": 33.25})
    assert version.setting == TUNED
    assert version.figures["test_psnr"] == 33.25
    assert float(version.tags["exported.test_psnr"]) == before
    assert version.tags["tuning.speed_up"] == "2.500"
    assert version.tags["tuning.cpu"] == "a fast one"
    assert read_file(version, "versions/3/tuning/tuning.json") is not None
    card = read_file(version, "versions/3/card.md")
    assert card is not None and "tiles of 96, overlap 32" in card and "33.25 dB" in card

    out = fetch_model("models:/deblur-unet@candidate", store / "model.onnx")
    assert read_setting(out) == TUNED
    assert Engine(out).setting == TUNED
    # Tuned again, the figure of the exported file is still that.
    again = attach_tuning("models:/deblur-unet/3", tuning, TUNED, {"test_psnr": 33.0})
    assert float(again.tags["exported.test_psnr"]) == before


def test_a_setting_in_int8_comes_with_the_quantised_file(
    versions: list[Version], store: Path, planted: Path
) -> None:
    import onnx

    int8 = TUNED.model_copy(update={"precision": "int8"})
    tuning = store / "tuning"
    tuning.mkdir()
    with pytest.raises(ModelFileError, match=r"has no model\.int8\.onnx"):
        attach_tuning("models:/deblur-unet/3", tuning, int8, {})
    assert find_version("3").setting is None

    proto = onnx.load(planted / "mild.onnx")
    next(p for p in proto.metadata_props if p.key == "deblur.precision").value = '"int8"'
    onnx.save(proto, tuning / "model.int8.onnx")
    version = attach_tuning("models:/deblur-unet/3", tuning, int8, {})
    out = fetch_model("models:/deblur-unet/3", store / "model.onnx")
    assert file_sha256(out) == file_sha256(tuning / "model.int8.onnx")
    assert file_sha256(out) == version.tags["serving.sha256"] != version.tags["sha256"]
    engine = Engine(out)
    assert (engine.setting, engine.sha256) == (int8, version.tags["serving.sha256"])

    # To be tuned again it comes as it was registered.
    plain = fetch_model("models:/deblur-unet/3", store / "model.onnx", tuned=False)
    assert file_sha256(plain) == version.tags["sha256"]
    assert read_setting(plain) is None


def test_a_file_without_a_contract_is_not_registered(store: Path, planted: Path) -> None:
    import onnx

    proto = onnx.load(planted / "mild.onnx")
    assert proto.graph.input[0].name == INPUT
    del proto.metadata_props[:]
    onnx.save(proto, store / "bare.onnx")
    with pytest.raises(ModelFileError, match="does not carry the serving contract"):
        registered(store / "bare.onnx", planted / "prepared")
    assert list_versions() == []


def test_a_store_out_of_reach_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for ask in (list_versions, lambda: find_version("@champion"), roll_back):
        with pytest.raises(SetupError, match="cannot be reached"):
            ask()


def crash_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Let the process die after so many aliases were written."""
    done = 0

    def write(alias: str, number: int, name: str) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        done += 1
        set_alias(alias, number, name)

    monkeypatch.setattr(moving, "set_alias", write)


@pytest.mark.parametrize("writes", [0, 1])
def test_a_promotion_that_crashed_leaves_a_champion_and_is_finished_by_the_next(
    versions: list[Version], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    one, two, three = versions
    assert make_champion(one) is None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        crash_after(patch, writes)
        make_champion(two)
    assert holders() == [(1, None), (2, None)][writes]
    make_champion(two)
    assert holders() == (2, 1)
    make_champion(three)
    assert holders() == (3, 2)


@pytest.mark.parametrize("writes", [0, 1])
def test_a_rollback_that_crashed_is_finished_and_not_taken_back_by_the_next(
    versions: list[Version], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    make_champion(versions[0])
    make_champion(versions[1])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        crash_after(patch, writes)
        roll_back()
    assert holders() == [(2, 1), (1, 1)][writes]
    now, before = roll_back()
    assert (now.version, before.version) == holders() == (1, 2)
    roll_back()
    assert holders() == (2, 1)


def test_a_rollback_after_a_promotion_that_crashed_goes_back_from_it(
    versions: list[Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_champion(versions[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        crash_after(patch, 1)
        make_champion(versions[1])
    roll_back()
    assert holders() == (1, 2)


def test_promoting_the_champion_again_keeps_the_one_before(versions: list[Version]) -> None:
    make_champion(versions[0])
    make_champion(versions[1])
    assert make_champion(versions[1]) is not None
    assert holders() == (2, 1)
