"""What a real server answers: the champion's picture, the next one's, and the old one's again."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from deblur.champion import make_champion, roll_back
from deblur.cli import app
from deblur.metrics import quality
from deblur.registry import find_version, read_file
from deblur.serving.engine import Engine
from deblur.serving.setting import Setting
from deblur.tuning.attach import attach_tuning
from tests.gates.planted import (
    GOOD,
    MILD,
    Sharpening,
    planted_file,
    planted_pairs,
    posted,
    registered,
    scores,
)
from tests.serving.conftest import decoded

pytestmark = pytest.mark.slow

Pictures = list[tuple[bytes, np.ndarray]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry with a mild and a good version, the mild one champion."""
    folder = tmp_path_factory.mktemp("served")
    data = planted_pairs(folder, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        for name, strength in (("mild", MILD), ("good", GOOD)):
            registered(planted_file(Sharpening(strength), data, folder / f"{name}.onnx"), data)
        make_champion(find_version("1"))
        yield folder


@pytest.fixture(scope="module")
def pictures(store: Path) -> Pictures:
    return posted(store / "prepared")


@contextmanager
def served(address: str, folder: Path) -> Iterator[httpx.Client]:
    """A server process with a registered model."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [
        sys.executable, "-m", "deblur", "serve", "--model", address, "--port", str(port),
        "--set", "reload_seconds=0.5", "--set", f"jobs_folder={folder / 'jobs'}",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(900):
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def answers(client: httpx.Client, pictures: Pictures) -> tuple[list[bytes], str]:
    """The pictures that come back, and the model that made them."""
    got = [client.post("/v1/deblur", content=blurred) for blurred, _ in pictures]
    assert {answer.status_code for answer in got} == {200}
    (model,) = {answer.headers["X-Deblur-Model"] for answer in got}
    return [answer.content for answer in got], model


def psnr(answered: list[bytes], pictures: Pictures) -> float:
    """What a client computes from what it gets, in dB."""
    pairs = zip(answered, pictures, strict=True)
    return float(np.mean([quality(decoded(a), sharp).psnr for a, (_, sharp) in pairs]))


def test_promotion_and_rollback_change_what_a_running_server_answers(
    store: Path, pictures: Pictures
) -> None:
    with served("models:/deblur-unet@champion", store) as client:
        first, model = answers(client, pictures)
        assert model == find_version("1").tags["sha256"]
        expected = find_version("1").figures["test_psnr"]
        assert psnr(first, pictures) == pytest.approx(expected, abs=0.01)

        make_champion(find_version("2"))
        until_version(client, "2", pictures)
        second, model = answers(client, pictures)
        assert model == find_version("2").tags["sha256"]
        expected = find_version("2").figures["test_psnr"]
        assert psnr(second, pictures) == pytest.approx(expected, abs=0.01)
        assert psnr(second, pictures) > psnr(first, pictures) + 0.5

        roll_back()
        until_version(client, "1", pictures)
        third, model = answers(client, pictures)
        assert model == find_version("1").tags["sha256"]
        assert third == first


def until_version(client: httpx.Client, version: str, pictures: Pictures) -> None:
    """Post pictures, none of which may fail, until the server answers with a version."""
    for _ in range(600):
        answer = client.post("/v1/deblur", content=pictures[0][0])
        assert answer.status_code == 200
        if answer.headers["X-Deblur-Version"] == version:
            return
        time.sleep(0.1)
    raise AssertionError(f"the server never came to version {version}")


def test_the_figure_of_a_tuned_version_is_what_its_server_delivers(
    store: Path, pictures: Pictures
) -> None:
    setting = Setting(tile=96, overlap=32, threads=1)
    tuned = store / "tuned.onnx"
    tuned.write_bytes((store / "good.onnx").read_bytes())
    tuned.with_suffix(".serving.json").write_text(setting.model_dump_json())
    assert Engine(tuned).setting == setting
    (store / "tuning").mkdir()
    metrics = scores(tuned, store / "prepared").metrics("test")
    version = attach_tuning("models:/deblur-unet/2", store / "tuning", setting, metrics)
    with served(version.address, store) as client:
        said = client.get("/readyz").json()["model"]
        answered, model = answers(client, pictures)
    assert model == version.tags["serving.sha256"] == said["sha256"]
    assert psnr(answered, pictures) == pytest.approx(version.figures["test_psnr"], abs=0.01)


def test_a_version_that_the_command_tuned_is_served_so(store: Path, pictures: Pictures) -> None:
    command = [
        "tune",
        "models:/deblur-unet/1",
        str(store / "prepared"),
        "--out",
        "tuned",
        "--quick",
    ]
    small = ["--side", "128", "--pictures", "1", "--rounds", "1"]
    result = CliRunner().invoke(app, [*command, *small])
    assert result.exit_code == 0, result.output
    version = find_version("1")
    assert version.setting is not None
    assert read_file(version, "versions/1/tuning/measured.json") is not None
    with served(version.address, store) as client:
        said = client.get("/readyz").json()["model"]
        answered, _ = answers(client, pictures)
    assert (said["provider"], said["precision"], said["tile"], said["overlap"]) == (
        version.setting.provider, version.setting.precision, version.setting.tile,
        version.setting.overlap,
    )  # fmt: skip
    assert psnr(answered, pictures) == pytest.approx(version.figures["test_psnr"], abs=0.01)
