"""What stages hand on to each other through Kubeflow."""

import json
from pathlib import Path
from types import SimpleNamespace

from kfp.dsl import Metrics

from components.evaluate import EvalResult
from components.train import TrainResult
from pipelines.kubeflow.handing import hand, keep_file, log_metrics, take, version_of

TRAINING = TrainResult("/data/runs/a/best.pt", "0123", 2, 22.98, 22.96, False)


def test_a_result_survives_the_way_through_kubeflow() -> None:
    # Its parameters are protobuf, in which all numbers are floats.
    handed = json.loads(json.dumps(hand(TRAINING, sha256="ab")), parse_int=float)
    assert take(TrainResult, handed) == TRAINING
    assert type(take(TrainResult, handed).epochs) is int
    figures = {"test_psnr": 1 / 3}
    scored = EvalResult("test", 1, 20.1, 0.7, 19.0, 0.6, "s.json", figures, "r", ("a", "b"))
    assert take(EvalResult, json.loads(json.dumps(hand(scored)))) == scored


def test_what_is_handed_on_tells_two_checkpoints_at_one_path_apart() -> None:
    assert hand(TRAINING, sha256="1") != hand(TRAINING, sha256="2")
    assert take(TrainResult, hand(TRAINING, sha256="1")) == TRAINING


def test_the_version_of_data_changes_with_a_picture_and_with_the_reference(
    root: Path, tmp_path: Path
) -> None:
    before = version_of(str(root), "blur", "")
    assert version_of(str(root), "blur", "") == before
    report = tmp_path / "report.json"
    report.write_text("{}")
    compared = version_of(str(root), "blur", str(tmp_path))
    assert compared != before
    assert version_of(str(root), "blur", str(report)) == compared
    report.write_text('{"a": 1}')
    assert version_of(str(root), "blur", str(tmp_path)) != compared
    picture = next(root.rglob("sharp/*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert version_of(str(root), "blur", "") != before


def test_a_figure_that_json_cannot_hold_is_left_out(tmp_path: Path) -> None:
    metrics = Metrics(uri=str(tmp_path / "metrics"))
    log_metrics(metrics, {"psnr": 23.5, "ssim": float("nan"), "gain": float("-inf")})
    log_metrics(metrics, {"epochs": 2})
    assert metrics.metadata == {"psnr": 23.5, "epochs": 2}
    assert json.loads((tmp_path / "metrics").read_text()) == metrics.metadata


def test_a_file_that_is_not_there_gives_an_empty_artifact(tmp_path: Path) -> None:
    artifact = SimpleNamespace(path=str(tmp_path / "new" / "report"))
    keep_file(artifact, tmp_path / "none.html")
    assert Path(artifact.path).read_bytes() == b""
    (tmp_path / "some.html").write_text("<p>")
    keep_file(artifact, tmp_path / "some.html")
    assert Path(artifact.path).read_text() == "<p>"
