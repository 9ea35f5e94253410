"""The page at ``/``: a person drops a photograph and gets it back sharp.

Plain HTML, CSS and ES modules out of the package, held in memory. They ask no other origin for
anything, and the headers forbid it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request, Response

#: Told here, because the ``mimetypes`` of Windows follow its registry. What is not listed, such as
#: the README of the samples, is not served.
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: dict[str, str]


def page_routes() -> APIRouter:
    """``/`` and ``/static/...``, with an ``ETag`` that browsers ask again with each time."""
    held = dict(_held(files("deblur.serving") / "static", ""))
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer(held["index.html"], request)

    @router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def static(name: str, request: Request) -> Response:
        if name not in held:
            raise HTTPException(404, f"there is no file '{name}' here: begin at the page /")
        return _answer(held[name], request)

    return router


def _held(folder: Traversable, prefix: str) -> Iterator[tuple[str, _File]]:
    for item in folder.iterdir():
        name = prefix + item.name
        if item.is_dir():
            yield from _held(item, f"{name}/")
            continue
        media = _MEDIA.get(item.name[item.name.rfind(".") :])
        if media:
            content = item.read_bytes()
            yield name, _File(content, _headers(content, media))


def _headers(content: bytes, media: str) -> dict[str, str]:
    return {
        "Content-Type": media,
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _answer(file: _File, request: Request) -> Response:
    known = request.headers.get("if-none-match", "")
    # A proxy that compresses makes the tag a weak one.
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    if file.headers["ETag"] in tags or "*" in tags:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)
