"""A client of the picture server, with nothing but the standard library.

client = Client("http://127.0.0.1:8000")
sharp = client.deblur(Path("photo.jpg").read_bytes())
Path("sharp.jpg").write_bytes(sharp.content)
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from deblur.errors import PictureError, SetupError
from deblur.images import FORMATS

#: Seconds without a byte from a server: that it is asked about itself, and that it deblurs.
_READY_SECONDS, _PICTURE_SECONDS = 10.0, 600.0

#: Between two looks at a job, in seconds.
_LOOK = 0.5

#: Answers that say "later", not "no".
_LATER = (429, 503)
_REFUSED = (400, 406, 410, 413, 415, 422)


class ServerAnswerError(SetupError):
    """The server answered with an error.

    Attributes:
        answered: its status.
        detail: the sentence that it gave.
        retry_after: seconds after which it wants to be asked again, 0 if it does not say.
    """

    def __init__(self, address: str, answered: int, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(
            f"{address} answers {answered} ({detail}): is this a server started by  deblur serve, "
            "and does it accept pictures of this size?"
        )
        self.answered, self.detail, self.retry_after = answered, detail, retry_after


class UnreachableError(SetupError):
    """There was no answer."""


@dataclass(frozen=True)
class Answer:
    """What came back: the body, and the headers, whose names are found in any case."""

    content: bytes
    headers: Message


class Client:
    """Sends pictures to a server started by ``deblur serve``. May be used by several threads.

    Args:
        address: as ``http://127.0.0.1:8000``.
        key: API key, if the server wants one.
        patience: seconds for which a picture is offered again to a server that is busy, starting
            or not to be reached for a moment.
    """

    def __init__(self, address: str, key: str | None = None, patience: float = 300.0) -> None:
        self.address = address.rstrip("/")
        self.patience = patience
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ready(self) -> dict[str, Any]:
        """What the server says about itself: model, setting, limits.

        Raises:
            SetupError: it does not answer, or not as one of this program.
        """
        content = self._ask(Request(f"{self.address}/readyz"), _READY_SECONDS).content
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise SetupError(
                f"{self.address}/readyz answers {content[:40]!r}: expected the address of a server "
                "started by  deblur serve, without a path"
            )
        return said

    def deblur(self, content: bytes, accept: str = "*/*", **query: str | int | float) -> Answer:
        """Deblur an encoded picture, and wait for it.

        Args:
            content: the file.
            accept: media type of the answer; by default the picture's own.
            query: as ``quality=80``, ``metadata="strip"``, ``frames="first"``, ``deadline=10``.

        Raises:
            PictureError: the server refuses the picture, and says why.
            SetupError: it does not answer, or is busy for longer than ``patience``.
        """
        return self._patiently(
            lambda: self._send("POST", "/v1/deblur", content, accept, query, _PICTURE_SECONDS)
        )

    def deblur_as_job(
        self,
        content: bytes,
        accept: str = "*/*",
        on_tiles: Callable[[int, int], None] = lambda done, total: None,
        **query: str | int,
    ) -> Answer:
        """The same as a job of the server: with progress, and unharmed by lost connections.

        The job's name is the digest of what is asked, so that whoever asks again, also after having
        been killed, finds it where it was. A server without jobs is sent the picture as ``deblur``
        sends it.

        Args:
            content, accept, query: as ``deblur``, without a deadline.
            on_tiles: called with the tiles done and their total.

        Raises:
            PictureError, SetupError: as ``deblur``.
        """
        asked = json.dumps([accept, sorted(query.items())]).encode()
        job = f"/v1/jobs/{hashlib.sha256(asked + content).hexdigest()}"
        try:
            put = self._patiently(lambda: self._send("PUT", job, content, accept, query, 60.0))
        except ServerAnswerError as error:
            if error.answered in (404, 405):
                return self.deblur(content, accept, **query)
            raise
        said = _job(put)
        while said["state"] in ("queued", "running"):
            on_tiles(int(said["tiles"]["done"]), int(said["tiles"]["total"]))
            time.sleep(_LOOK)
            said = _job(self._patiently(lambda: self._send("GET", job)))
        if said["state"] == "done":
            answer = self._patiently(lambda: self._send("GET", f"{job}/result"))
        self._patiently(lambda: self._send("DELETE", job))
        if said["state"] != "done":
            failure = said.get("error") or {"detail": f"the job was {said['state']}"}
            raise PictureError(str(failure["detail"]))
        on_tiles(int(said["tiles"]["total"]), int(said["tiles"]["total"]))
        return answer

    def restore(
        self,
        file: Path,
        format: str,
        on_tiles: Callable[[int, int], None] = lambda done, total: None,
    ) -> bytes:
        """The file deblurred, encoded in a format of ``FORMATS``: for ``deblur_files``."""
        try:
            return self.deblur_as_job(file.read_bytes(), FORMATS[format], on_tiles).content
        except PictureError as error:
            raise PictureError(f"{file}: {error}") from None

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        accept: str = "*/*",
        query: Mapping[str, str | int | float] | None = None,
        seconds: float = _READY_SECONDS,
    ) -> Answer:
        address = self.address + quote(path) + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Content-Type": "application/octet-stream"}
        return self._ask(Request(address, content, headers, method=method), seconds)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until there is an answer other than "later", or patience is at its end."""
        until, pause = time.monotonic() + self.patience, 1.0
        while True:
            try:
                return ask()
            except ServerAnswerError as error:
                if error.answered in _REFUSED:
                    raise PictureError(error.detail) from None
                if error.answered not in _LATER or time.monotonic() > until:
                    raise
                pause = max(pause, min(error.retry_after, 30.0))
            except UnreachableError:
                if time.monotonic() > until:
                    raise
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(1.5 * pause, 30.0)

    def _ask(self, request: Request, seconds: float) -> Answer:
        for name, value in self._headers.items():
            request.add_header(name, value)
        try:
            with urlopen(request, timeout=seconds) as answer:
                return Answer(answer.read(), answer.headers)
        except HTTPError as error:
            raise ServerAnswerError(
                request.full_url, error.code, _detail(error), _seconds(error.headers)
            ) from None
        except TimeoutError:
            reason = f"no answer within {seconds:g} s"
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise UnreachableError(
            f"the server {self.address} does not answer ({reason}): start one with  deblur serve, "
            "or mend the address"
        )


def _job(answer: Answer) -> dict[str, Any]:
    try:
        said = json.loads(answer.content)
        if isinstance(said["state"], str) and isinstance(said["tiles"], dict):
            return said
    except (ValueError, TypeError, KeyError):
        pass
    raise SetupError(
        f"the server describes a job as {answer.content[:60]!r}: expected a server started by "
        " deblur serve  of this version"
    )


def _detail(error: HTTPError) -> str:
    """What an answer says beyond its number."""
    try:
        said = json.loads(error.read(10_000))["detail"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return error.reason
    return said if isinstance(said, str) else error.reason


def _seconds(headers: Message) -> float:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
