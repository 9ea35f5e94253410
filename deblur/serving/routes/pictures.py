"""``POST /v1/deblur``: a picture in, a picture out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from deblur.images import FORMATS
from deblur.serving.routes.requests import (
    PICTURE,
    PICTURE_BODY,
    PICTURE_PROBLEMS,
    picture_of,
    problems,
    unless_left,
    wanted_of,
)
from deblur.serving.service import Service, Wanted

_ANSWERS = {
    200: {
        "description": "The deblurred picture, of the same size",
        "content": {media: {"schema": PICTURE} for media in FORMATS.values()},
        "headers": {
            "X-Deblur-Model": {
                "description": "SHA-256 of the model file",
                "schema": {"type": "string"},
            },
            "X-Deblur-Tiles": {"description": "Number of tiles", "schema": {"type": "integer"}},
        },
    },
    **PICTURE_PROBLEMS,
    **problems(_504="Not ready by the deadline"),
}


def picture_routes(service: Service) -> APIRouter:
    """The routes that deblur a picture while the client waits."""
    routes = APIRouter(tags=["pictures"])

    @routes.post(
        "/v1/deblur",
        summary="Deblur a picture",
        openapi_extra=PICTURE_BODY,
        responses=_ANSWERS,
        response_class=Response,
    )
    async def deblur_picture(
        request: Request,
        wanted: Annotated[Wanted, Depends(wanted_of)],
        deadline: Annotated[
            float | None,
            Query(gt=0, allow_inf_nan=False, description="Seconds that the client will wait"),
        ] = None,
    ) -> Response:
        """Takes a picture as the raw body or as the multipart field `image`.

        Answers in the format that `Accept` asks for, by default the picture's own.
        """
        async with picture_of(request, service) as encoded:
            answer = await unless_left(request, service.deblur(encoded, wanted, deadline=deadline))
        return Response(answer.content, media_type=answer.media, headers=answer.headers)

    return routes
