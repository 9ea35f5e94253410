"""The flow ``batch-deblur`` in a process of its own, against a real Prefect server."""

import json
from pathlib import Path

import pytest

from tests.batch.folders import break_some, pictures_below, small_pictures
from tests.pipelines.live import Platform

RUN = (
    "import json, sys\n"
    "from dataclasses import asdict\n"
    "from pipelines.batch_deblur import batch_deblur\n"
    "print('RESULT', json.dumps(asdict(batch_deblur(**json.loads(sys.argv[1])))))"
)

pytestmark = pytest.mark.slow


def test_the_flow_deblurs_a_folder_and_shows_what_it_came_to(
    platform: Platform, tmp_path: Path, tiny_model: Path
) -> None:
    names = small_pictures(tmp_path / "in", 6)
    break_some(tmp_path / "in", names[:1])
    values = {
        "source": str(tmp_path / "in"), "target": str(tmp_path / "out"),
        "model": str(tiny_model), "price_per_hour": 2.0,
    }  # fmt: skip
    results = []
    for _ in range(2):
        run = platform.run("-c", RUN, json.dumps(values))
        assert run.returncode == 0, run.stderr
        results.append(json.loads(run.stdout.split("RESULT ")[1]))
    assert [(r["computed"], r["skipped"], r["failed"]) for r in results] == [(5, 0, 1), (0, 5, 1)]
    assert pictures_below(tmp_path / "out") == names[1:]
    (shown,) = platform.artifacts("batch-report", platform.newest_run())
    assert "| pictures done | 5 of 6 |" in shown
    assert f"| {names[0]} | {names[0]} is empty" in shown
