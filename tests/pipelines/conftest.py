"""One Prefect server for all tests of the flows, and one model that they have trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pipelines.live import Platform, Trained


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Platform]":
    from tests.pipelines.live import running_platform

    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="package")
def trained(platform: "Platform", tiny_root: Path) -> "Trained":
    """``train-deblur`` has run once, with the gate."""
    from tests.pipelines.live import Trained

    done = platform.train(platform.parameters(tiny_root, run_name="first", promote=True))
    assert done.returncode == 0, done.stderr
    return Trained(platform, platform.newest_run())
