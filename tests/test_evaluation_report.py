"""The report of an evaluation: its figures, its page, its JSON."""

import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from deblur.bootstrap import mean_interval
from deblur.data.manifest import read_manifest
from deblur.errors import DataError, SetupError
from deblur.evaluation import PictureScore, Scores
from deblur.gates.check import Check
from deblur.metrics import Quality
from deblur.predictors import Predictor
from deblur.report import EvaluationReport, Source, evaluate_and_report
from deblur.report.evaluation import _figures
from deblur.report.page import severity
from deblur.report.panels import _scale_end, chosen, coloured, examples
from deblur.report.plots import HEIGHT, WIDTH, histogram, scatter


def sharpened(planes: np.ndarray) -> np.ndarray:
    low = ndimage.gaussian_filter(planes, (0, 0, 1.5, 1.5))
    return planes + np.float32(0.4) * (planes - low)


SHARPENER = Predictor(
    predict=sharpened, tile=64, overlap=16, identity="c0ffee" * 10, kind="onnx",
    address="sharpen<er>.onnx", network="DeblurUNet, base_ch 8", precision="fp32",
)  # fmt: skip


def scored(gains: dict[str, list[float]], blurred: float = 25.0) -> Scores:
    """Scores with such gains in dB, by scene."""
    return Scores(
        tuple(
            PictureScore(
                scene, f"{number:06d}", Quality(blurred + number, 0.8, 0.9),
                Quality(blurred + number + gain, 0.85, 0.92), 0.1,
            )
            for scene, of_scene in gains.items()
            for number, gain in enumerate(of_scene)
        )
    )  # fmt: skip


def report_of(scores: Scores, split: str = "test") -> EvaluationReport:
    source = Source("data", split, "blur", "recorded", None, None)
    return EvaluationReport(SHARPENER, source, scores, _figures(scores, True), "2026-11-22")


@pytest.fixture(scope="module")
def written(
    tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvaluationReport, Path]:
    """A report on the four training pictures of two scenes."""
    out = tmp_path_factory.mktemp("report") / "here"
    return evaluate_and_report(SHARPENER, tiny_data, "train", out=out), out


def test_the_report_says_what_the_model_does_to_pictures_that_need_nothing(
    written: tuple[EvaluationReport, Path],
) -> None:
    report, out = written
    checks = {check.name: check for check in report.checks}
    assert {"worse_share", "sharp_mean", "text", "noise_gain", "flat_step"} <= checks.keys()
    assert checks["noise_gain"].value > 1.1, "sharpening amplifies noise"
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in content["checks"]] == list(checks)
    assert all(each["passed"] == checks[each["name"]].passed for each in content["checks"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Harm and seams" in page
    assert all(f">{name}</td>" in page for name in checks)


def test_failed_checks_are_named() -> None:
    report = report_of(scored({"a": [1.0, 2.0]}))
    assert not any("checks" in sentence for sentence in report.sentences())
    good = Check("text", 40.0, "at least", 26.0, "dB", "")
    bad = Check("noise_gain", 2.0, "at most", 1.5, "", "")
    passed = replace(report, checks=(good,)).sentences()
    assert "All 1 checks of harm and seams passed." in passed
    failed = replace(report, checks=(good, bad)).sentences()
    assert "1 of 2 checks of harm and seams failed: noise_gain." in failed


def test_the_json_holds_every_figure_and_what_it_belongs_to(
    written: tuple[EvaluationReport, Path], tiny_data: Path
) -> None:
    report, out = written
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    scores = report.scores
    assert len(content["pictures"]) == 4
    for row, score in zip(content["pictures"], scores.pictures, strict=True):
        assert (row["scene"], row["name"]) == (score.scene, score.name)
        assert row["result"]["psnr"] == score.result.psnr
        assert row["result"]["ssim_matlab3d"] == score.result.ssim_matlab3d
        assert row["gain"] == score.result.psnr - score.blurred.psnr
    gain = content["figures"]["psnr"]["gain"]
    expected = mean_interval([p.gain for p in scores.pictures], [p.scene for p in scores.pictures])
    assert (gain["mean"], gain["low"], gain["high"]) == (
        pytest.approx(scores.gain), expected.low, expected.high,
    )  # fmt: skip
    assert set(content["figures"]) == {"psnr", "ssim", "ssim_matlab3d"}
    assert content["interval"] == {"level": 0.95, "drawn": "scenes", "groups": 2, "draws": 10000}
    assert content["scenes"]["discs-train"]["pictures"] == 2
    manifest = read_manifest(tiny_data)
    assert content["data"]["digest"] == manifest.digest
    assert content["data"]["split_digest"] == manifest.splits["train"].digest
    assert (content["data"]["kind"], content["data"]["subset"]) == ("recorded", "blur")
    assert content["model"] == {
        "tile": 64, "overlap": 16, "rounded": False, "identity": "c0ffee" * 10, "kind": "onnx",
        "address": "sharpen<er>.onnx", "network": "DeblurUNet, base_ch 8", "precision": "fp32",
    }  # fmt: skip


class Page(HTMLParser):
    """The text of a page, and the addresses in it. Unclosed elements are found."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.addresses, self.tags = "", [], []  # type: ignore[var-annotated]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_the_figures_and_needs_nothing_else(
    written: tuple[EvaluationReport, Path],
) -> None:
    report, out = written
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html
    assert all(str(address).startswith("data:image/jpeg") for address in page.addresses)
    assert len(page.addresses) == 3 * 5 + 1  # and the sheet of drawn pictures
    assert page.tags.count("circle") == 4
    for figure in (report.scores.psnr, report.scores.blurred_psnr):
        assert f"{figure:.2f}" in page.words
    assert f"{report.scores.ssim_matlab3d:.4f}" in page.words
    assert "sharpen<er>.onnx" in page.words and "<er>" not in html
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    for role in ("best", "median", "worst"):
        assert f"{role}: " in page.words


def test_without_a_folder_nothing_is_written_and_the_volume_ssim_not_taken(tiny_data: Path) -> None:
    report = evaluate_and_report(SHARPENER, tiny_data, "test")
    assert [figure.name for figure in report.figures] == ["psnr", "ssim"]
    assert report.scores.ssim_matlab3d is None


def test_one_picture_makes_a_report_without_intervals(tiny_data: Path, tmp_path: Path) -> None:
    report = evaluate_and_report(SHARPENER, tiny_data, "test", out=tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["figures"]["psnr"]["gain"]["low"] is None
    assert "A single picture has no interval." in report.sentences()
    assert Page((tmp_path / "report.html").read_text()).words.count("best: ") == 1


def test_a_picture_equal_to_its_original_is_reported_without_a_number(
    root: Path, tmp_path: Path
) -> None:
    for pair in ("000001.png", "000002.png"):
        sharp = root / "train" / "discs-train" / "sharp" / pair
        (root / "train" / "discs-train" / "blur" / pair).write_bytes(sharp.read_bytes())
    report = evaluate_and_report(SHARPENER, str(root), "train", out=tmp_path / "out")
    assert report.psnr.gain is None and math.isinf(report.scores.blurred_psnr)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["figures"]["psnr"]["blurred"] == {"mean": None}
    assert "2 of the pictures equal their originals: there is no interval." in report.sentences()


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    calls: list[int] = []

    def predict(planes: np.ndarray) -> np.ndarray:
        calls.append(1)
        return planes

    model = replace(SHARPENER, predict=predict)
    with pytest.raises(SetupError, match=r"cannot write the report to .*taken .*--out"):
        evaluate_and_report(model, tiny_data, "test", out=tmp_path / "taken")
    assert calls == []


def test_a_split_that_is_not_there_is_refused(tiny_data: Path) -> None:
    with pytest.raises(DataError, match="no split 'validation'"):
        evaluate_and_report(SHARPENER, tiny_data, "validation")


def test_the_verdict_follows_the_interval_of_the_gain() -> None:
    better = report_of(scored({"a": [1.0, 1.2], "b": [0.9, 1.1], "c": [1.0, 1.3]}))
    worse = report_of(scored({"a": [-1.0, -1.2], "b": [-0.9, -1.1], "c": [-1.0, -1.3]}))
    unclear = report_of(scored({"a": [-2.0, 1.0], "b": [2.0, 1.0], "c": [-1.0, 0.5]}))
    assert [severity(r) for r in (better, worse, unclear)] == ["good", "error", "warning"]
    assert "No picture was made worse." in better.sentences()
    assert "2 of 6 pictures were made worse, one by 2.00 dB." in unclear.sentences()
    assert [picture.scene for picture in unclear.worse] == ["a", "c"]


def test_pictures_of_one_scene_are_said_to_be_so() -> None:
    said = " ".join(report_of(scored({"only": [1.0, 2.0, 3.0]})).sentences())
    assert "All pictures are of one scene" in said


def test_the_whole_gopro_test_set_is_told_from_a_part_and_from_other_data() -> None:
    whole = {f"GOPR{n:04d}_11_00": [1.0] * 101 for n in range(11)}
    part = {**whole, "GOPR0000_11_00": [1.0] * 100}
    assert report_of(scored(whole)).gopro == "whole"
    assert report_of(scored(part)).gopro == "part"
    assert report_of(scored(whole), split="val").gopro == ""
    assert report_of(scored({"street": [1.0]})).gopro == ""
    assert "GoPro's whole test set" in " ".join(report_of(scored(whole)).sentences())
    assert "1,111 pictures of 11 scenes: not comp" in " ".join(report_of(scored(part)).sentences())


def test_best_median_and_worst_are_chosen_by_gain() -> None:
    scores = scored({"a": [0.5, -1.0, 3.0], "b": [1.0, 2.0]})
    assert chosen(scores) == {"best": 2, "median": 3, "worst": 1}
    assert chosen(scored({"a": [1.0]})) == {"best": 0}
    assert chosen(scored({"a": [1.0, 2.0]})) == {"best": 1, "median": 0}
    assert chosen(scored({"a": [math.inf]})) == {}


def test_examples_are_details_of_the_pictures_predicted_again(tiny_data: Path) -> None:
    from deblur.data.pairs import open_pairs
    from deblur.images import to_float, to_uint8

    pairs = open_pairs(tiny_data, "train")
    scores = scored({"a": [1.0, 4.0], "b": [2.0, 3.0]})
    calls = []

    def predict(planes: np.ndarray) -> np.ndarray:
        calls.append(planes.shape)
        return sharpened(planes)

    found = examples(scores, pairs, predict)
    assert [example.role for example in found] == ["best", "median", "worst"]
    assert len(calls) == 3
    blurred, sharp = pairs.read(1)
    assert np.array_equal(found[0].sharp, sharp) and np.array_equal(found[0].blurred, blurred)
    assert np.array_equal(found[0].result, to_uint8(sharpened(to_float(blurred))))


def test_errors_have_the_colours_of_one_scale_from_dark_to_light() -> None:
    drawn = coloured(np.array([[0.0, 15.0, 30.0, 60.0, 200.0]]), 60.0)
    assert drawn[0, 0].tolist() == [0, 0, 4]
    assert drawn[0, 1].tolist() == [87, 16, 110]
    assert drawn[0, 3].tolist() == drawn[0, 4].tolist() == [252, 255, 164]
    light = drawn[0].astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(light[:4]) > 0).all()
    assert _scale_end([np.full((4, 4), 3.0)]) == 10
    assert _scale_end([np.full((4, 4), 33.0), np.zeros((4, 4))]) == 40


def test_the_scatter_puts_a_picture_where_its_figures_are() -> None:
    scores = scored({"a": [0.0, 1.0, 2.0, -1.0]}, blurred=20.0)
    drawn = scatter(scores.pictures)
    assert drawn is not None
    xs, ys = [p.x for p in drawn.points], [p.y for p in drawn.points]
    assert xs == sorted(xs) and np.allclose(np.diff(xs), xs[1] - xs[0])
    assert ys[0] == pytest.approx(drawn.zero)
    assert ys[2] < ys[1] < drawn.zero < ys[3]
    assert drawn.mean == pytest.approx(drawn.zero + 0.5 * (ys[1] - drawn.zero))
    assert [p.worse for p in drawn.points] == [False, False, False, True]
    assert all(0 <= x <= WIDTH for x in xs) and all(0 <= y <= HEIGHT for y in ys)
    ticks = {text: place for place, text in drawn.x_ticks}
    assert ticks["21.0"] == pytest.approx(xs[1])


def test_no_bar_of_the_histogram_holds_gains_of_both_signs() -> None:
    rng = np.random.default_rng(2)
    gains = rng.normal(0.3, 1.0, 500).tolist()
    drawn = histogram(scored({"a": gains}).pictures)
    assert drawn is not None
    counts = [round(bar.height / HEIGHT * drawn.most) for bar in drawn.bars]
    assert sum(counts) == 500
    assert sum(count for bar, count in zip(drawn.bars, counts, strict=True) if bar.worse) == sum(
        gain < 0 for gain in gains
    )
    assert 10 <= len(drawn.bars) <= 34
    assert drawn.bars[-1].x + drawn.bars[-1].width <= WIDTH + 1e-6


@pytest.mark.parametrize("gains", [[0.0], [1.0], [-0.25, -0.25], [1e-9, 0.0], [40.0, -40.0]])
def test_plots_of_few_and_strange_values_have_finite_places(gains: list[float]) -> None:
    pictures = scored({"a": gains}).pictures
    points, bars = scatter(pictures), histogram(pictures)
    assert points is not None and bars is not None
    places = [(p.x, p.y) for p in points.points] + [(b.x, b.height) for b in bars.bars]
    assert np.isfinite(places).all()
    assert scatter([]) is None and histogram([]) is None


def test_the_pictures_on_the_page_can_be_decoded(written: tuple[EvaluationReport, Path]) -> None:
    import base64
    import io

    html = (written[1] / "report.html").read_text(encoding="utf-8")
    uris = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", html)
    *sizes, sheet = [Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris]
    assert len(sizes) == 15 and min(sheet) > 160
    assert all(90 <= width <= 160 and 70 <= height <= 120 for width, height in sizes)


@pytest.mark.slow
def test_the_stage_keeps_the_report_beside_the_scores_and_with_the_run(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.evaluate import evaluate as evaluate_stage
    from components.prepare import PreparedData
    from components.train import TrainResult
    from deblur.tracking import load_mlflow, tracked_run

    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    checkpoint = shutil.copytree(tiny_run, tmp_path / "run") / "best.pt"
    with tracked_run("stage") as run:
        training = TrainResult(str(checkpoint), run.run_id, 2, 20.0, 19.0, False)
    data = PreparedData(str(tiny_data), read_manifest(tiny_data).digest, "recorded")
    result = evaluate_stage(training, data)
    assert result.report == str(tmp_path / "run" / "evaluation_test")
    content = json.loads((Path(result.report) / "report.json").read_text())
    assert content["figures"]["psnr"]["result"]["mean"] == result.psnr
    assert content["data"]["digest"] == data.digest
    assert json.loads(Path(result.scores_path).read_text())["kind"] == "recorded"
    assert result.metrics["test_psnr"] == result.psnr
    client = load_mlflow().MlflowClient(store)
    kept = {file.path for file in client.list_artifacts(run.run_id, "evaluation_test")}
    assert kept == {"evaluation_test/report.html", "evaluation_test/report.json"}
    assert client.get_run(run.run_id).data.metrics["test_psnr"] == result.psnr
