"""``validate-data``, and what is tried again, with a real Prefect server."""

import json
import os
from pathlib import Path

import pytest

from deblur.data.prepare import describe
from tests.pipelines.live import Platform, eventually

pytestmark = pytest.mark.slow

VALIDATE = """
import json, sys
from pipelines.validate_data import validate_data
report = validate_data(**json.loads(sys.argv[1]))
print(json.dumps(report.pairs))
"""


def test_a_version_of_the_data_is_told_of_once(
    platform: Platform, root: Path, tmp_path: Path
) -> None:
    values = {"data_root": str(root), "crop": 64, "runs_dir": str(tmp_path / "runs")}

    def validate(**more: object) -> dict[str, str]:
        done = platform.run("-c", VALIDATE, json.dumps({**values, **more}))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == {"train": 4, "val": 1, "test": 1}
        return platform.tasks_of(platform.newest_run())

    def told() -> list[dict[str, str]]:
        return [each for each in platform.versions_of_data() if each["data_root"] == str(root)]

    first = describe(root).digest
    assert validate() == {"validate": "Completed"}
    expected = {"digest": first, "previous": "", "data_root": str(root)}
    assert eventually(told) == [expected]
    report = json.loads(
        (tmp_path / "runs" / "validation" / "pairs-blur" / "report.json").read_text()
    )
    assert report["usable"]

    assert validate() == {"validate": "Cached"}
    picture = next((root / "train").rglob("blur/*.png"))
    content, times = picture.read_bytes(), picture.stat()
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000))
    assert validate() == {"validate": "Completed"}, "a new time may mean a new picture"
    picture.write_bytes(content + b"\0")  # a picture's end may be followed by anything
    assert validate(expect_new=False) == {"validate": "Completed"}
    assert validate() == {"validate": "Cached"}
    second = describe(root).digest
    assert second != first
    expected = {"digest": second, "previous": first, "data_root": str(root)}
    assert eventually(lambda: told()[1:]) == [expected], "and not of the new time alone"


FAULTS = """
import json, sys
import components.prepare
from prefect import flow
from deblur.errors import DataError
from pipelines import tasks

prepare, errors = components.prepare.prepare, []

def faulty(*given):
    if len(errors) < 2:
        errors.append(sys.argv[2])
        if sys.argv[2] == "passes":
            try:
                raise ConnectionResetError("connection reset by peer")
            except ConnectionResetError as error:
                raise DataError(f"s3://pairs cannot be read ({error})") from None
        raise DataError("a picture is damaged")
    return prepare(*given)

components.prepare.prepare = faulty

@flow
def prepared():
    at_once = tasks._prepare.with_options(retry_delay_seconds=0)
    return at_once(sys.argv[1], sys.argv[3], "blur")

try:
    prepared()
finally:
    print(len(errors))
"""


@pytest.mark.parametrize(("fault", "raised", "ends"), [("passes", 2, 0), ("lasts", 1, 1)])
def test_a_stage_is_tried_again_after_a_fault_that_passes_alone(
    platform: Platform, tiny_root: Path, tmp_path: Path, fault: str, raised: int, ends: int
) -> None:
    done = platform.run("-c", FAULTS, str(tiny_root), fault, str(tmp_path / "prepared"))
    assert (done.returncode, done.stdout.strip()) == (ends, str(raised)), done.stderr
    assert (tmp_path / "prepared" / "manifest.json").is_file() == (ends == 0)
