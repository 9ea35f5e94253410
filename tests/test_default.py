"""The model that comes with the package."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from deblur.cli import app
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, random_camera_path
from deblur.default import DEFAULT, DEFAULT_MODEL
from deblur.images import read_rgb, to_float, to_uint8
from deblur.metrics import psnr
from deblur.predictors import open_predictor
from deblur.serving.config import ServerConfig
from deblur.serving.source import look_up

#: Photographs that are not in benchmarks/photographs.csv.
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")


def photograph(name: str) -> np.ndarray:
    """``[384, 384, 3]`` uint8, its middle."""
    pixels = getattr(skimage.data, name)()
    top, left = ((side - 384) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[max(top, 0) :, max(left, 0) :][:384, :384])


def blurred(sharp: np.ndarray, length: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Under a shaken camera: blurred and sharp, uint8."""
    path = random_camera_path(generator(number, Stream.BLUR, 0, 0), length, 0.1)
    blurry, kept = motion_blur(sharp, path)
    return np.rint(blurry.clip(0, 255)).astype(np.uint8), kept


@pytest.mark.parametrize("length", [8.0, 16.0])
def test_it_gains_on_every_blurred_photograph_that_it_has_not_seen(length: float) -> None:
    gains = []
    with open_predictor(DEFAULT) as model:
        for number, name in enumerate(PHOTOGRAPHS):
            blurry, sharp = blurred(photograph(name), length, number)
            restored = to_uint8(model.predict(to_float(blurry)))
            gains.append(psnr(restored, sharp) - psnr(blurry, sharp))
    assert min(gains) > 0.1, gains
    assert np.mean(gains) > 0.5, gains


def test_it_leaves_sharp_photographs_nearly_as_they_are() -> None:
    with open_predictor(DEFAULT) as model:
        kept = [
            psnr(to_uint8(model.predict(to_float(sharp))), sharp)
            for sharp in map(photograph, PHOTOGRAPHS)
        ]
    assert min(kept) > 36, kept


def test_a_picture_is_deblurred_without_naming_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # with no registry in it
    Path("default").mkdir()  # a folder of that name is not taken for it
    blurry, sharp = blurred(photograph("coffee"), 12.0, 3)
    Image.fromarray(blurry).save("blurry.png")
    done = CliRunner().invoke(app, ["predict", "blurry.png", "sharp.png"])
    assert done.exit_code == 0, done.output
    assert psnr(read_rgb(Path("sharp.png")), sharp) > psnr(blurry, sharp) + 0.1


def test_the_server_runs_it_unless_told_otherwise() -> None:
    source = look_up(ServerConfig().model)
    with open_predictor(str(DEFAULT_MODEL)) as model:
        assert source.open(1).sha256 == model.identity


def test_its_card_and_its_file_belong_together() -> None:
    card = DEFAULT_MODEL.with_name("CARD.md").read_text(encoding="utf-8")
    with open_predictor(DEFAULT) as model:
        assert model.identity in card
    assert DEFAULT_MODEL.stat().st_size < 40e6
