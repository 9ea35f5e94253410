"""The server's configuration: command line before environment before file before default."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deblur.errors import ConfigError
from deblur.images import Limits
from deblur.settings import build

#: ``max_megapixels`` is ``DEBLUR_MAX_MEGAPIXELS`` in the environment.
PREFIX = "DEBLUR_"


class ServerConfig(BaseModel):
    """Everything that can be set of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default="models:/deblur-unet@candidate", description="ONNX file or models:/ address"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port; 0 takes a free one")
    threads: int | None = Field(
        default=None, ge=1, description="of the network; default: all usable CPUs"
    )
    max_megabytes: float = Field(default=64, gt=0, description="limit on a file, in 2^20 bytes")
    max_megapixels: float = Field(default=100, gt=0, description="limit on a picture, in 10^6")
    queue_megapixels: float | None = Field(
        default=None, gt=0, description="taken on at once; default: four of the largest pictures"
    )
    drain_seconds: float = Field(
        default=60, ge=0, description="pictures under way have to end after a signal"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="of the log")

    @property
    def limits(self) -> Limits:
        return Limits(self.max_megabytes, self.max_megapixels)

    @classmethod
    def load(
        cls, given: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None
    ) -> "ServerConfig":
        """Put together what is set in each place.

        Args:
            given: on the command line.
            environment: its variables ``DEBLUR_...`` that name a field are taken.
            file: TOML with fields at the top level.

        Raises:
            ConfigError: the file cannot be read, a key is unknown, or a value out of its range.
        """
        named = {key: environment.get(PREFIX + key.upper()) for key in cls.model_fields}
        set_there = {key: value for key, value in named.items() if value}
        return build(cls, {**_of(file), **set_there, **given}, "server configuration")


def _of(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the configuration file {file} cannot be read ({error}): expected TOML with lines as "
            "max_megapixels = 50"
        ) from None
