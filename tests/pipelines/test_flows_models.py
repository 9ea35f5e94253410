"""``evaluate-deblur`` and ``promote-deblur`` with a real Prefect server and a registered model."""

import json
from pathlib import Path

import pytest

from deblur.registry import MODEL_NAME
from tests.pipelines.live import Trained

pytestmark = pytest.mark.slow

BOTH = """
import json, sys
from dataclasses import asdict
from pipelines.evaluate_deblur import evaluate_deblur
from pipelines.promote_deblur import promote_deblur
data, runs, model = sys.argv[1:]
result = evaluate_deblur(model=model, data_root=data, runs_dir=runs)
promotion = promote_deblur(version="1", data_root=data, split="train", dry_run=True)
print(json.dumps([asdict(result), asdict(promotion)]))
"""


def test_any_model_is_evaluated_and_any_version_judged_on_any_data(
    trained: Trained, tiny_root: Path, tmp_path: Path
) -> None:
    address = f"models:/{MODEL_NAME}/1"
    platform = trained.platform
    done = platform.run("-c", BOTH, str(tiny_root), str(tmp_path), address)
    assert done.returncode == 0, done.stderr
    result, promotion = json.loads(done.stdout.splitlines()[-1])

    version = platform.mlflow.get_model_version(MODEL_NAME, "1")
    assert result["psnr"] == pytest.approx(float(version.tags["test_psnr"]), abs=0.005)
    (folder,) = (tmp_path / "evaluations").iterdir()
    assert Path(result["report"]) == folder
    assert {file.name for file in folder.iterdir()} == {
        "before_after.jpg", "report.html", "report.json", "scores_test.json",
    }  # fmt: skip

    # On its own training pictures: the gate notices.
    assert (promotion["promoted"], promotion["champion"]) == (False, 0)
    assert "leaked_pairs" in promotion["reason"]
    assert "split train" in platform.artifacts("gate-decision", platform.newest_run())[0]
    assert version.tags["promotion"] == "refused"  # of the training's own gate, not of the dry run
