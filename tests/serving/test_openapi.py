"""Requests made up from the server's own description of itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import JobSettings
from tests.serving.live import serving

CHECKS = (
    "no_fault_of_the_server", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip


@pytest.mark.slow
def test_made_up_requests_get_no_fault_and_no_answer_that_is_not_described(
    engine: Engine, tmp_path: Path
) -> None:
    app = create_app(
        engine,
        Limits(megabytes=0.5, megapixels=0.01),
        jobs=JobSettings(folder=tmp_path / "jobs"),
    )
    hooks = Path(__file__).with_name("openapi_checks.py")
    with serving(app) as address:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "run", f"{address}/openapi.json",
                "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful",
                "--max-examples", "15", "--seed", "1", "--request-timeout", "60",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(hooks), "COLUMNS": "200"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated and int(generated[1]) > 300, done.stdout[-6000:]
