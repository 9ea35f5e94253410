"""The server's configuration: command line before environment before file before default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deblur.default import DEFAULT
from deblur.images import Limits
from deblur.serving.jobs.job import JobSettings
from deblur.settings import build, read_toml

#: ``max_megapixels`` is ``DEBLUR_MAX_MEGAPIXELS`` in the environment.
PREFIX = "DEBLUR_"


class ServerConfig(BaseModel):
    """Everything that can be set of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default=DEFAULT, description="ONNX file, models:/ address, or default: the package's own"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port; 0 takes a free one")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="for the Open Inference Protocol; default: none"
    )
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
    reload_seconds: float = Field(
        default=60, ge=0, description="between looks for another model; 0: none"
    )
    jobs_folder: Path | None = Field(
        default=None, description="of this server alone; default: .deblur/jobs-PORT"
    )
    jobs_max: int = Field(default=1000, ge=1, description="queued and running together")
    jobs_gigabytes: float = Field(default=10, gt=0, description="on disk, in 2^30 bytes")
    jobs_hours: float = Field(default=24, gt=0, description="that a finished job is kept")
    drift_window: int = Field(default=200, ge=10, description="pictures that are compared at once")
    drift_threshold: float = Field(
        default=0.2, gt=0, description="PSI from which what comes in is taken for other pictures"
    )
    drift_webhook: str | None = Field(default=None, description="address that drift is told to")
    drift_form: Literal["plain", "prefect"] = Field(
        default="plain", description="of what is told; prefect: for its API's address with /events"
    )
    api_keys: Path | None = Field(
        default=None, description="file of keys that callers need, as deblur key prints them"
    )
    open_access: bool = Field(default=False, description="let other machines in without a key")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="web pages elsewhere that may call, as https://app.example"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="of the log")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        loopback = self.host in ("localhost", "::1") or self.host.startswith("127.")
        if not (loopback or self.api_keys or self.open_access):
            raise ValueError(
                f"on {self.host} other machines can call the server: name a file of API keys with "
                "api_keys (deblur key NAME makes one), or set open_access=true"
            )
        return self

    @property
    def limits(self) -> Limits:
        return Limits(self.max_megabytes, self.max_megapixels)

    @property
    def jobs(self) -> JobSettings:
        return JobSettings(
            folder=self.jobs_folder or Path(".deblur") / f"jobs-{self.port}",
            max_jobs=self.jobs_max,
            max_gigabytes=self.jobs_gigabytes,
            hours=self.jobs_hours,
        )

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
        written = read_toml(file, "the configuration file", "max_megapixels = 50")
        return build(cls, {**written, **set_there, **given}, "server configuration")
