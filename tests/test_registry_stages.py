"""The stages register and promote, on a model that was really trained."""

import json
import shutil
from pathlib import Path

import pytest

from components.evaluate import EvalResult
from components.export import ExportResult
from components.prepare import PreparedData
from components.promote import promote
from components.register import register
from components.train import TrainResult
from deblur.data.manifest import read_manifest
from deblur.digests import file_sha256
from deblur.gates.trial import trained_on
from deblur.registry import find_version, read_file
from deblur.tracking import tracked_run

pytestmark = pytest.mark.slow


def test_a_trained_model_is_registered_with_its_card_and_judged_by_pictures_it_has_not_seen(
    tiny_run: Path, tiny_model: Path, tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}")
    run_folder = shutil.copytree(tiny_run, tmp_path / "run")
    manifest = read_manifest(tiny_data)
    data = PreparedData(str(tiny_data), manifest.digest, manifest.kind)
    with tracked_run("tiny") as run:
        run.params({"recipe": "seed"})
    training = TrainResult(str(run_folder / "best.pt"), run.run_id, 2, 20.0, 19.0, False)
    evaluation = EvalResult(
        "test", 1, 20.0, 0.5, 19.0, 0.4, "", {"test_psnr": 20.0, "test_blurred_psnr": 19.0}
    )
    exported = ExportResult(str(tiny_model), file_sha256(tiny_model), {})
    registration = register(training, evaluation, exported, data)
    assert register(training, evaluation, exported, data) == registration

    version = find_version(registration.uri)
    assert version.version == registration.version == 1
    assert version.tags["model.parameters"] == "541707"
    assert json.loads(version.tags["data.pairs"]) == {"train": 4, "val": 1, "test": 1}
    assert float(version.tags["training.hours"]) >= 0.0
    assert "CPU" in version.tags["training.hardware"]
    kept = trained_on(version)
    assert kept is not None and kept.digest == manifest.digest
    card = read_file(version, "versions/1/card.md")
    assert card is not None and "541,707 parameters" in card and "| recipe | seed |" in card
    page = read_file(version, "versions/1/card.html")
    assert page is not None and "<h1>deblur-unet, version 1</h1>" in page

    promotion = promote(registration, data)
    text = read_file(version, "versions/1/promotion/decision.json")
    assert text is not None
    checks = {check["name"]: check for check in json.loads(text)["checks"]}
    assert checks["leaked_pairs"]["value"] == 0.0
    # One picture has no interval, so nothing is promoted by it.
    assert (promotion.version, promotion.promoted, promotion.champion) == (1, False, 0)
    assert "gain" in promotion.reason
