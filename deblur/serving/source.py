"""Where the served model comes from, and whether it is another one by now."""

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from deblur.errors import DeblurError
from deblur.predictors import local_model, model_file, run_registry
from deblur.serving.engine import Engine
from deblur.serving.service import Service
from deblur.serving.setting import int8_file, setting_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What an address stands for at a moment.

    Attributes:
        address: ``default``, an ONNX file, or ``models:/`` with the number of the version.
        version: that number, ``""`` of a file.
        state: equal to a later one's if the model and its setting are the same.
    """

    address: str
    version: str
    state: str

    def open(self, threads: int | None) -> Engine:
        """The model, ready to compute tiles.

        Raises:
            ModelFileError, SetupError: as ``Engine``, or it cannot be fetched.
        """
        with local_model(self.address) as path:
            return Engine(path, threads)


def look_up(address: str) -> Source:
    """What ``address`` stands for now: the file itself, or the version that an alias has.

    Raises:
        DeblurError: there is no such registered model, or the registry cannot be reached.
    """
    if not address.startswith("models:/"):
        model = model_file(address)
        files = (model, setting_file(model), int8_file(model))
        return Source(address, "", " ".join(_state(file) for file in files))
    said = json.loads(run_registry("registry", "show", "--json", address))
    version, tags = str(said["version"]), said["tags"]
    settings = {name: value for name, value in tags.items() if name.startswith("serving.")}
    state = json.dumps([version, tags.get("sha256"), settings], sort_keys=True)
    return Source(f"models:/{said['name']}/{version}", version, state)


async def follow(
    address: str, service: Service, now: Source, threads: int | None, seconds: float
) -> None:
    """Serve whatever ``address`` stands for: look every ``seconds``, until cancelled.

    A model that cannot be opened leaves the one before in service, with a line in the log.
    """
    seen = now
    while True:
        await asyncio.sleep(seconds)
        try:
            found = await asyncio.to_thread(look_up, address)
            # A file that is just being written is looked at again when it is the same twice.
            if found.state == now.state or (found.state != seen.state and not found.version):
                seen = found
                continue
            seen = found
            engine = await asyncio.to_thread(found.open, threads)
            await service.replace(engine, found.version)
        except DeblurError as error:
            service.telemetry.reloads.labels("failed").inc()
            log.warning("%s cannot take over, the model before goes on: %s", address, error)
            continue
        service.telemetry.reloads.labels("done").inc()
        log.info(
            "now serving %s (%s, before it %s), model %s",
            address, found.address, now.address, engine.sha256[:12],
        )  # fmt: skip
        now = found


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except FileNotFoundError:
        return "none"
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
