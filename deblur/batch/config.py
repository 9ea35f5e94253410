"""What a batch is: source, target, model, and the shard that one process works on."""

import os
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from deblur.data.storage import Location, location
from deblur.default import DEFAULT
from deblur.digests import fraction_of
from deblur.errors import ConfigError

#: Within the target: manifest, records and reports. Its name hides it from listings of pictures.
BATCH_FOLDER = ".deblur-batch"
#: Kubernetes tells each pod of an Indexed Job its number in this variable.
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


class BatchConfig(BaseModel):
    """One batch. Which process works on which shard of it is not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="folder of pictures; local or s3://...")
    target: str = Field(description="folder for the results, under the same names")
    model: str = Field(
        default=DEFAULT,
        description="models:/ address, ONNX file, checkpoint, folder of a run, server, default",
    )
    workers: int | None = Field(
        default=None, ge=1, le=256,
        description="pictures computed side by side; by default as the model's setting says",
    )  # fmt: skip
    max_megapixels: float = Field(
        default=100.0, gt=0, description="larger pictures are reported and left out"
    )
    overwrite: bool = Field(
        default=False, description="replace pictures of the target that no batch has written"
    )
    price_per_hour: float | None = Field(
        default=None, ge=0, description="of one machine, for the costs in the report"
    )

    @property
    def folder(self) -> Location:
        """Where manifest, records and reports lie."""
        return location(self.target) / BATCH_FOLDER


@dataclass(frozen=True)
class Shard:
    """The part ``index`` (from 0) of ``count``: by a hash of the name, so that every process knows
    by itself which pictures are its own, and a picture that is added moves no other."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"there is no shard {self.index} of {self.count}: expected I/N with I from 0 to "
                "N - 1, as 0/4"
            )

    def holds(self, name: str) -> bool:
        """Whether the picture is of this shard."""
        return int(fraction_of(name) * self.count) == self.index

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of ``"I/N"``.

        Raises:
            ConfigError: it is not of this form.
        """
        index, slash, count = text.partition("/")
        if not slash or not index.strip().isdecimal() or not count.strip().isdecimal():
            raise ConfigError(f"'{text}' is no shard: expected I/N with I from 0, as 0/4")
        return cls(int(index), int(count))

    @classmethod
    def of_job(cls, count: int) -> Self:
        """The shard of this pod of a Kubernetes Indexed Job with ``count`` completions.

        Raises:
            ConfigError: this is no such pod.
        """
        index = os.environ.get(INDEX_VARIABLE, "")
        if not index.isdecimal():
            raise ConfigError(
                f"{count} shards are asked for, but {INDEX_VARIABLE} is not set as in a pod of a "
                "Kubernetes Indexed Job: name the shard as --shard I/N, or a cluster as --ray"
            )
        return cls(int(index), count)
