"""Another model in the file, or behind the alias, takes over while the server runs."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deblur.serving import source as sources
from deblur.serving.service import Service
from deblur.serving.setting import Setting, write_setting
from deblur.serving.source import Source, follow, look_up
from tests.serving.conftest import encoded


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_model, tmp_path / "model.onnx"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def reloads(service: Service, outcome: str) -> float:
    return service.telemetry.reloads.labels(outcome)._value.get()


def test_a_setting_put_beside_the_file_is_taken_up(model: Path, photograph: np.ndarray) -> None:
    async def body() -> None:
        now = look_up(str(model))
        service = Service(now.open(1))
        service.start()
        following = asyncio.create_task(follow(str(model), service, now, 1, 0.02))
        picture = encoded(photograph[:80, :80])
        before = await service.deblur(picture)
        await asyncio.sleep(0.1)
        assert reloads(service, "done") == 0
        write_setting(model, Setting(tile=96, overlap=32))
        await until(lambda: reloads(service, "done") == 1)
        after = await service.deblur(picture)
        assert before.headers["X-Deblur-Plan"] == "tile=64; overlap=16"
        assert after.headers["X-Deblur-Plan"] == "tile=96; overlap=32"
        following.cancel()
        service.close()

    asyncio.run(asyncio.wait_for(body(), 120))


def test_a_file_that_cannot_be_served_leaves_the_model_before(
    model: Path, tiny_model: Path, photograph: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        now = look_up(str(model))
        service = Service(now.open(1))
        service.start()
        before = service.engine
        following = asyncio.create_task(follow(str(model), service, now, 1, 0.02))
        model.write_bytes(b"half a file")
        await until(lambda: reloads(service, "failed") >= 1)
        assert service.engine is before
        assert (await service.deblur(encoded(photograph[:80, :80]))).content
        shutil.copy(tiny_model, model)
        await until(lambda: reloads(service, "done") == 1)
        assert service.engine is not before
        following.cancel()
        service.close()

    asyncio.run(asyncio.wait_for(body(), 120))
    assert "cannot take over, the model before goes on: " in caplog.text


def test_an_alias_that_moves_brings_the_other_version(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ["3"]
    monkeypatch.setattr(
        sources, "look_up", lambda address: Source(str(model), held[0], f"state of {held[0]}")
    )

    async def body() -> None:
        now = sources.look_up("models:/deblur-unet@champion")
        service = Service(now.open(1), version=now.version)
        service.start()
        following = asyncio.create_task(follow("models:/x@champion", service, now, 1, 0.02))
        assert service.version == "3"
        held[0] = "4"
        await until(lambda: service.version == "4")
        held[0] = "3"
        await until(lambda: service.version == "3")
        assert reloads(service, "done") == 2
        following.cancel()
        service.close()

    asyncio.run(asyncio.wait_for(body(), 120))
