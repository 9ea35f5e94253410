"""``/v1/jobs``: pictures that are deblurred while the client does something else."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from deblur.images import FORMATS
from deblur.serving.jobs.job import Job
from deblur.serving.jobs.runner import Jobs
from deblur.serving.routes.requests import (
    PICTURE,
    PICTURE_BODY,
    PICTURE_PROBLEMS,
    picture_of,
    problems,
    wanted_of,
)
from deblur.serving.service import Service, Wanted

Answers = dict[int | str, dict[str, Any]]
Id = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9_-]{1,64}$",
        description="Chosen by the client. Where others use the server too, take a random one: "
        "whoever knows it can fetch and delete the job",
        examples=["holiday-0042"],
    ),
]

#: States change and results are deleted, so nothing is to be kept on the way; and a proxy that
#: collects the stream before it passes it on would hold events back.
_FRESH = {"Cache-Control": "no-store"}
_STREAMED = {**_FRESH, "X-Accel-Buffering": "no"}

_UNKNOWN = problems(
    _404="No such job: never sent, deleted, or its time is up", _422="Not an id of a job"
)
_PUT: Answers = {
    200: {"description": "The same request is known under this id: its job", "model": Job},
    **PICTURE_PROBLEMS,
    **problems(
        _409="The id belongs to another picture, or to another answer of it",
        _429="More jobs, megapixels or bytes are waiting than are taken on",
        _507="The server's disk does not take it",
    ),
}
_EVENTS: Answers = {
    200: {
        "description": "Server-sent events named `job`, the data of each a Job",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {"event": {"const": "job"}, "data": {"type": "string"}},
                },
                "example": 'event: job\ndata: {"id":"holiday-0042","state":"running", ...}\n\n',
            }
        },
    },
    **_UNKNOWN,
}
_RESULT: Answers = {
    200: {
        "description": "The deblurred picture, with the headers of `POST /v1/deblur`",
        "content": {media: {"schema": PICTURE} for media in FORMATS.values()},
    },
    **_UNKNOWN,
    **problems(
        _409="The job has not ended",
        _410="The job was cancelled",
        _413="The job failed: more pixels than allowed",
        _415="The job failed: the picture is damaged",
        _500="The job failed: a fault of the server",
        _507="The job failed: the server's disk did not take the result",
    ),
}


def jobs_routes(service: Service, jobs: Jobs) -> APIRouter:
    """``/v1/jobs/{id}`` and what belongs to it. ``jobs`` is started and stopped by the caller."""
    routes = APIRouter(prefix="/v1/jobs/{id}", tags=["jobs"])

    @routes.put(
        "",
        summary="Send a picture to be deblurred",
        status_code=201,
        openapi_extra=PICTURE_BODY,
        responses=_PUT,
    )
    async def put_job(
        id: Id, request: Request, response: Response, wanted: Annotated[Wanted, Depends(wanted_of)]
    ) -> Job:
        """Takes what `POST /v1/deblur` takes, and answers as soon as it is stored.

        It may be sent again whenever the answer did not arrive: the same picture with the same
        query and `Accept` is the same job.
        """
        async with picture_of(request, service) as encoded:
            job, new = await jobs.put(id, encoded, wanted)
        response.status_code = 201 if new else 200
        return job

    @routes.get("", summary="How far a job is", responses=_UNKNOWN)
    async def get_job(id: Id, response: Response) -> Job:
        response.headers.update(_FRESH)
        return jobs.get(id)

    @routes.get(
        "/events",
        summary="Follow a job",
        responses=_EVENTS,
        response_class=StreamingResponse,
    )
    async def follow_job(id: Id) -> Response:
        """An event at once, then at each change, at most five a second. The stream ends after the
        job has, or with the server.
        """
        events = _events(jobs.follow(id))
        return StreamingResponse(events, media_type="text/event-stream", headers=_STREAMED)

    @routes.get(
        "/result",
        summary="The deblurred picture",
        responses=_RESULT,
        response_class=FileResponse,
    )
    async def result_of_job(id: Id) -> Response:
        path, record = await jobs.result(id)
        headers = {**record.headers, **_FRESH}
        return FileResponse(path, media_type=record.media, headers=headers)

    @routes.delete("", summary="Cancel and forget a job", status_code=204, responses=_UNKNOWN)
    async def delete_job(id: Id) -> None:
        await jobs.delete(id)

    return routes


async def _events(jobs: AsyncIterator[Job | None]) -> AsyncIterator[str]:
    async for job in jobs:
        yield f"event: job\ndata: {job.model_dump_json()}\n\n" if job else ": still there\n\n"
