"""Promotion and rollback in real registries: SQLite, and PostgreSQL."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from deblur.cli import app
from deblur.data.manifest import MANIFEST
from deblur.gates.trial import promote
from deblur.registry import CHAMPION, PREVIOUS, alias_holder, find_version, list_versions, read_file
from tests.gates.planted import (
    GOOD,
    MILD,
    Noisy,
    Sharpening,
    planted_file,
    planted_pairs,
    registered,
)
from tests.postgres import postgres_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``prepared`` pairs, and the files of four models: mild, good, blurring, noisy."""
    folder = tmp_path_factory.mktemp("planted")
    data = planted_pairs(folder)
    networks = {
        "mild": Sharpening(MILD), "good": Sharpening(GOOD), "blurring": Sharpening(-0.3),
        "noisy": Noisy(),
    }  # fmt: skip
    for name, network in networks.items():
        planted_file(network, data, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A registry of its own, for the tests of this file in their order."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        if request.param == "sqlite":
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
            yield folder
        else:
            with postgres_server() as address:
                patch.setenv("MLFLOW_TRACKING_URI", address)
                yield folder


def deblur(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def holders() -> tuple[int | None, int | None]:
    """Numbers of the champion and of the one before."""
    champion, previous = alias_holder(CHAMPION), alias_holder(PREVIOUS)
    return champion and champion.version, previous and previous.version  # type: ignore[return-value]


def test_nothing_can_be_promoted_or_rolled_back_in_an_empty_registry(
    store: Path, planted: Path
) -> None:
    code, said = deblur("promote", planted / "prepared")
    assert (code, "Register a model" in said) == (2, True)
    code, said = deblur("rollback")
    assert (code, "nothing to roll back" in said) == (2, True)
    assert list_versions() == []


def test_the_first_that_helps_becomes_champion_and_keeps_its_evidence(
    store: Path, planted: Path
) -> None:
    registered(planted / "mild.onnx", planted / "prepared")
    code, said = deblur("promote", planted / "prepared", "--dry-run")
    assert (code, holders()) == (0, (None, None)), said
    assert "nothing was changed" in said
    assert "promotion" not in find_version("1").tags

    code, said = deblur("promote", planted / "prepared")
    assert (code, holders()) == (0, (1, None)), said
    version = find_version("@champion")
    assert version.tags["promotion"] == "promoted"
    text = read_file(version, "versions/1/promotion/decision.json")
    assert text is not None
    decision = json.loads(text)
    assert decision["promoted"] and decision["champion"] is None
    names = {check["name"] for check in decision["checks"]}
    assert {"gain", "worse_share", "sharp_mean", "flat_step", "leaked_pairs"} <= names
    assert decision["candidate"]["psnr"] == pytest.approx(version.figures["test_psnr"], abs=1e-3)
    picture = next(store.glob("mlruns/**/versions/1/promotion/decision.png"))
    assert Image.open(picture).size == (650, 460)
    card = read_file(version, "versions/1/card.md")
    assert card is not None and "champion" in card and "Promoted on" in card

    code, said = deblur("promote", planted / "prepared")
    assert (code, holders()) == (0, (1, None))
    assert "version 1 is the champion already" in said
    code, said = deblur("rollback")
    assert (code, holders()) == (2, (1, None))
    assert "there is none to go back to" in said


@pytest.mark.parametrize("name", ["blurring", "noisy"])
def test_a_worse_one_is_refused_with_3_and_a_reason(store: Path, planted: Path, name: str) -> None:
    version = registered(planted / f"{name}.onnx", planted / "prepared")
    code, said = deblur("promote", planted / "prepared")
    assert (code, holders()) == (3, (1, None)), said
    assert f"version {version.version} is refused" in said
    tags = find_version("@candidate").tags
    assert tags["promotion"] == "refused"
    assert "gain" in tags["promotion.reason"]


def test_a_better_one_is_refused_if_nobody_knows_what_it_was_trained_on(
    store: Path, planted: Path
) -> None:
    version = registered(planted / "good.onnx", planted / "prepared", files=())
    trial = promote(planted / "prepared", version.address)
    assert trial.decision is not None and not trial.decision.promoted
    assert trial.decision.reason.startswith("leaked_pairs nan")
    assert holders() == (1, None)


def test_a_better_one_is_refused_on_the_pictures_it_was_trained_on(
    store: Path, planted: Path
) -> None:
    version = registered(planted / "good.onnx", planted / "prepared", files=(MANIFEST,))
    trial = promote(planted / "prepared", version.address, split="train")
    assert trial.decision is not None and not trial.decision.promoted
    assert "leaked_pairs 2 pairs, allowed at most 0" in trial.decision.reason
    assert holders() == (1, None)


def test_a_better_one_takes_the_champions_place(store: Path, planted: Path) -> None:
    number = registered(planted / "good.onnx", planted / "prepared").version
    trial = promote(planted / "prepared")
    decision = trial.decision
    assert decision is not None and decision.promoted, decision
    assert decision.difference is not None and decision.difference.low > 0.5
    assert decision.champion is not None and decision.champion.version == 1
    assert trial.replaced is not None and trial.replaced.version == 1
    assert holders() == (number, 1)
    assert set(trial.version.aliases) == {"candidate", "champion"}


def test_a_rollback_restores_and_can_be_taken_back(store: Path) -> None:
    better, before = holders()
    code, said = deblur("rollback")
    assert (code, holders()) == (0, (before, better))
    assert f"version {before} is champion, version {better} is previous" in said
    assert "taken back" in find_version(str(better)).tags["rollback"]
    assert f"in the place of version {better}" in find_version(str(before)).tags["rollback"]
    assert deblur("rollback")[0] == 0
    assert holders() == (better, before)


def test_a_rollback_can_name_its_version(store: Path) -> None:
    champion, _ = holders()
    code, said = deblur("rollback", "--to", "2")
    assert (code, holders()) == (0, (2, champion)), said
    code, said = deblur("rollback", "--to", "2")
    assert (code, holders()) == (2, (2, champion))
    assert "is the champion of deblur-unet already" in said
    assert deblur("rollback", "--to", "77")[0] == 2
    assert deblur("rollback")[0] == 0
    assert holders() == (champion, 2)


def test_the_list_shows_aliases_figures_and_verdicts(store: Path) -> None:
    code, said = deblur("registry", "ls")
    assert code == 0
    for word in ("champion", "candidate", "previous", "refused", "promoted"):
        assert word in said
    code, said = deblur("registry", "ls", "--json")
    listed = json.loads(said)
    assert [entry["version"] for entry in listed] == sorted(
        (entry["version"] for entry in listed), reverse=True
    )
    assert listed[-1]["figures"]["test_psnr"] > listed[-1]["figures"]["test_blurred_psnr"]


def test_a_version_is_shown_with_its_card_and_decision(store: Path) -> None:
    champion, _ = holders()
    code, said = deblur("registry", "show")
    assert code == 0
    assert f"deblur-unet, version {champion}" in said
    assert "leaked_pairs" in said
    code, said = deblur("registry", "show", "@champion", "--json")
    assert json.loads(said)["decision"]["promoted"] is True
    assert deblur("registry", "show", "@nobody")[0] == 2


def test_what_differs_between_two_versions_is_told(store: Path) -> None:
    champion, _ = holders()
    found = json.loads(deblur("registry", "diff", "1", champion, "--json")[1])
    assert {"test_psnr", "test_ssim"} <= found.keys()
    assert "data.digest" not in found
    assert "do not differ" in deblur("registry", "diff", "1", "1")[1]
