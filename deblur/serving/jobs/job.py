"""What a job is to its client, and what can be set of jobs."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deblur.errors import DeblurError

State = Literal["queued", "running", "done", "failed", "cancelled"]

#: States that a job stays in.
FINAL = frozenset({"done", "failed", "cancelled"})


class JobSettings(BaseModel):
    """Where jobs are kept, and how many of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(description="of this server alone")
    max_jobs: int = Field(default=1000, ge=1, description="queued and running together")
    max_gigabytes: float = Field(
        default=10, gt=0, description="of pictures and results on disk, in 2^30 bytes"
    )
    hours: float = Field(default=24, gt=0, description="that a finished job is kept")


class Tiles(BaseModel):
    """How far a picture is."""

    done: int = Field(ge=0)
    total: int = Field(ge=1)


class Failure(BaseModel):
    """Why a job failed: what ``POST /v1/deblur`` would have answered."""

    model_config = ConfigDict(frozen=True)

    status: int
    detail: str


class Job(BaseModel):
    """A picture that is to be, or was, deblurred."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "holiday-0042",
                    "state": "running",
                    "created": "2026-11-23T08:30:00.250000Z",
                    "width": 6000,
                    "height": 4000,
                    "tiles": {"done": 120, "total": 504},
                    "seconds_left": 14.2,
                    "error": None,
                    "expires": None,
                    "model": None,
                    "result": None,
                }
            ]
        }
    )

    id: str
    state: State
    created: datetime = Field(description="In UTC")
    width: int
    height: int
    tiles: Tiles
    seconds_left: float | None = Field(description="An estimate; null once it has ended")
    error: Failure | None = Field(description="Of a failed job")
    expires: datetime | None = Field(description="When the job is forgotten; null before its end")
    model: str | None = Field(description="SHA-256 of the file of the model that deblurred it")
    result: str | None = Field(description="Where the picture is, once the job is done")


class UnknownJobError(DeblurError):
    """No job has this id, or no longer."""

    status = 404

    def __init__(self, id: str) -> None:
        super().__init__(
            f"there is no job '{id}': it was never sent, has been deleted, or its time is up"
        )


class JobConflictError(DeblurError):
    """The id belongs to another job, or the job is not where the request needs it to be."""

    status = 409


class JobCancelledError(DeblurError):
    """The job was cancelled, so it has no result."""

    status = 410


class JobFailedError(DeblurError):
    """The job failed; ``status`` is what it failed with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.status = failure.status


class StorageError(DeblurError):
    """The disk does not take what is to be written to it."""

    status = 507
