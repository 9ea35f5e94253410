"""The whole loop: other pictures come, the server tells, a training starts, its model is promoted
and served, and the answers are better."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from deblur.client import Client
from deblur.contract import PREFIX
from deblur.data.listing import find_pairs
from deblur.data.pairs import FolderPairs
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.scenes import discs, lettering, masonry
from deblur.digests import file_sha256
from deblur.images import Picture, decode_rgb, encode_picture
from deblur.inputs import Baseline, measure
from deblur.local.processes import HOST, free_port
from deblur.metrics import psnr
from deblur.registry import CHAMPION, alias_holder, set_alias
from tests.gates.planted import SIGMA, Sharpening, planted_file, planted_pairs, registered
from tests.pipelines.live import ROOT, Platform, running_platform, wait_for

pytestmark = pytest.mark.slow

#: As the pictures of night come: this much of the light of those that the champion was judged on.
NIGHT = 0.5
#: Of the sharpening that the champion does.
WEAK = 0.05
#: Learns more than the champion knows in about half a minute, and does no harm: the gate agrees.
LESSON = {
    "base_ch": 8, "patch_size": 96, "batch_size": 4, "num_epochs": 1, "crops_per_image": 90,
    "learning_rate": 1e-3, "schedule": "cosine", "ema_decay": 0.97, "tile": 96, "overlap": 32,
    "precision": "fp32", "patience": 0,
}  # fmt: skip
SIDES = (144, 112)


def picture(kind: int, seed: int) -> Image.Image:
    draw = (lettering, masonry, discs)[kind % 3]
    return draw(generator(seed, Stream.SCENE, 0)).convert("RGB").resize(SIDES)


def night_pairs(root: Path) -> Path:
    """Dark pairs with the blur of ``planted_pairs``, and for training some that need no deblurring,
    without which a network learns to sharpen everything."""

    def save(place: Path, **images: Image.Image) -> None:
        for kind, image in images.items():
            (place / kind).mkdir(parents=True)
            image.save(place / kind / "000001.png")

    for split, count in (("train", 6), ("val", 2), ("test", 6)):
        for scene in range(count):
            seed = {"train": 1000, "val": 1100, "test": 1200}[split] + scene
            sharp = picture(scene, seed).filter(ImageFilter.GaussianBlur(0.6))
            sharp = ImageEnhance.Brightness(sharp).enhance(NIGHT)
            save(
                root / split / f"{split}-{scene}",
                sharp=sharp, blur=sharp.filter(ImageFilter.GaussianBlur(SIGMA)),
            )  # fmt: skip
    still = {f"crisp-{kind}": np.asarray(picture(kind, 1300 + kind)) for kind in range(3)}
    rows, columns = SIDES[1], SIDES[0]
    rng = np.random.default_rng(0)
    steep = np.linspace(0, 255, columns).round().astype(np.uint8)
    still["steep"] = np.broadcast_to(steep[None, :, None], (rows, columns, 3))
    still["steep-back"] = still["steep"][:, ::-1]
    for number in range(3):
        colours = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        still[f"corners-{number}"] = colours.repeat(rows // 2, 0).repeat(columns // 2, 1)
        still[f"flat-{number}"] = np.broadcast_to(colours[0, 0], (rows, columns, 3))
        across, down = (50 * number + np.arange(n, dtype=np.uint8) for n in (columns, rows))
        still[f"across-{number}"] = np.broadcast_to(across[None, :, None], (rows, columns, 3))
        still[f"down-{number}"] = np.broadcast_to(down[::-1, None, None], (rows, columns, 3))
    still["noise"] = rng.normal(128, 12, (rows, columns, 3)).clip(0, 255).astype(np.uint8)
    for name, pixels in still.items():
        image = Image.fromarray(np.ascontiguousarray(pixels))
        save(root / "train" / name, sharp=image, blur=image)
    return root


def with_baseline(model: Path, pairs: Path) -> None:
    """Let a model file say which pictures it was judged on."""
    usual = FolderPairs(find_pairs(pairs, "test"))
    measured = [measure(usual.read(index)[0]) for index in range(len(usual))] * 20
    proto = onnx.load(model)
    value = json.dumps(Baseline.of(measured).to_json())
    proto.metadata_props.add(key=f"{PREFIX}baseline", value=value)
    onnx.save(proto, model)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("loop")) as running:
        running.deploy()
        yield running


def configure(platform: Platform, name: str, **parameters: object) -> str:
    """Other defaults for a deployment; its id."""
    url = platform.env["PREFECT_API_URL"]
    found = httpx.get(f"{url}/deployments/name/{name}/{name}").raise_for_status().json()
    values = {"parameters": {**found["parameters"], **parameters}}
    httpx.patch(f"{url}/deployments/{found['id']}", json=values).raise_for_status()
    return str(found["id"])


@contextmanager
def process(platform: Platform, name: str, *arguments: str) -> Iterator[None]:
    with (platform.folder / "logs" / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **platform.env},
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield
    finally:
        for child in psutil.Process(started.pid).children(recursive=True):
            child.kill()
        started.kill()
        started.wait()


def answers(server: str, pairs: FolderPairs) -> float:
    """PSNR in dB of what the server makes of the test pictures, mean."""
    client = Client(server)
    scores = []
    for index in range(len(pairs)):
        blurred, sharp = pairs.read(index)
        answer = client.deblur(encode_picture(Picture(blurred), "PNG"), "image/png")
        scores.append(psnr(decode_rgb(answer.content, "the answer"), sharp))
    return float(np.mean(scores))


def test_drift_leads_to_a_better_champion_that_is_served(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.env["MLFLOW_TRACKING_URI"])
    monkeypatch.chdir(platform.folder)
    day = planted_pairs(tmp_path / "day")
    model = planted_file(Sharpening(WEAK), day, tmp_path / "champion.onnx")
    with_baseline(model, tmp_path / "day" / "pairs")
    first = registered(model, day)
    set_alias(CHAMPION, first.version)

    night = night_pairs(tmp_path / "night")
    configure(platform, "retrain-deblur", quiet_minutes=0, per_day=1)
    train = configure(
        platform, "train-deblur", data_root=str(night), recipe="seed", overrides=LESSON,
        runs_dir=str(platform.folder / "runs"), checks={"identical.severity": "off"},
    )  # fmt: skip
    pictures = FolderPairs(find_pairs(night, "test"))
    port = free_port(0)
    server = f"http://{HOST}:{port}"
    settings = {
        "drift_window": 10, "drift_form": "prefect", "reload_seconds": 2,
        "drift_webhook": f"{platform.env['PREFECT_API_URL']}/events",
        "jobs_folder": tmp_path / "jobs",
    }  # fmt: skip
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    serve = ("deblur", "serve", "--model", "models:/deblur-unet@champion", "--port", str(port))

    def runs() -> list[dict[str, Any]]:
        asked = {"deployments": {"id": {"any_": [train]}}, "sort": "START_TIME_ASC"}
        found = platform.api("/flow_runs/filter", **asked)
        assert isinstance(found, list)
        return found

    with (
        process(platform, "worker", "prefect", "worker", "start", "--pool", "local"),
        process(platform, "server", *serve, *sets),
    ):
        wait_for("the server", lambda: ready(server))
        assert Client(server).ready()["model"]["sha256"] == file_sha256(model)
        before = answers(server, pictures)
        for _ in range(3):  # with the first look 24 pictures: two windows of 10
            answers(server, pictures)

        wait_for("a training", runs)
        done = wait_for("its end", lambda: [r for r in runs() if r["state_type"] in ENDED], 600)
        assert [run["state_name"] for run in done] == ["Completed"], done
        assert done[0]["tags"] == ["retraining"]

        champion = alias_holder(CHAMPION)
        assert champion is not None and champion.version == 2
        assert champion.tags["promotion"] == "promoted"
        new = champion.tags["sha256"]
        wait_for("the new champion", lambda: Client(server).ready()["model"]["sha256"] == new, 60)
        assert answers(server, pictures) > before + 0.3


ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def ready(server: str) -> bool:
    try:
        return httpx.get(f"{server}/readyz").status_code == 200
    except httpx.HTTPError:
        return False
