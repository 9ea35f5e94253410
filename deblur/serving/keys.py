"""API keys: who may post pictures, and how many megapixels a minute.

Kept as digests: whoever reads the file cannot call the server. A digest without salt and stretching
is enough for keys that are random and 256 bits long, and for no others; so keys are made here.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from deblur.errors import ConfigError
from deblur.serving.admission import BusyError

#: Paths that take pictures. The rest, as probes, metrics and the page, is open.
_GUARDED = ("/v1/", "/v2/")
_OPEN = ("/v2/health/",)


@dataclass
class Key:
    """One caller.

    Attributes:
        name: of the caller, for logs.
        digest: SHA-256 of the key, in hexadecimal.
        per_minute: megapixels a minute, ``None`` for any number. They may be saved up for a minute.
    """

    name: str
    digest: str
    per_minute: float | None = None

    def __post_init__(self) -> None:
        self._left, self._at = self.per_minute or 0.0, time.monotonic()

    def spend(self, megapixels: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Count a picture.

        Raises:
            BusyError: too many in the last minute. What is larger than a whole minute's passes if
                nothing else was sent.
        """
        if self.per_minute is None:
            return
        rate, now = self.per_minute / 60, clock()
        self._left = min(self.per_minute, self._left + (now - self._at) * rate)
        self._at = now
        needed = min(megapixels, self.per_minute)
        if self._left < needed:
            raise BusyError(
                f"the key '{self.name}' may send {self.per_minute:g} megapixels a minute: send "
                "the picture again later",
                (needed - self._left) / rate,
            )
        self._left -= megapixels


_caller: ContextVar[Key | None] = ContextVar("caller", default=None)


@contextmanager
def calling(key: Key | None) -> Iterator[None]:
    """What is done in the block is done for the holder of ``key``."""
    token = _caller.set(key)
    try:
        yield
    finally:
        _caller.reset(token)


def spend(megapixels: float) -> None:
    """Count a picture to the caller of the request that is being answered, if there are keys.

    Raises:
        BusyError: the caller has sent too many in the last minute.
    """
    key = _caller.get()
    if key is not None:
        key.spend(megapixels)


class Keys:
    """The keys that are accepted."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def holder(self, given: str) -> Key | None:
        """Whose key this is, or ``None``."""
        digest = digest_of(given)
        found = None
        for key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


class RequireKey:
    """ASGI middleware: lets requests with a key through to the guarded paths."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        guarded = scope["type"] == "http" and path.startswith(_GUARDED)
        # Browsers ask beforehand without the key, whether they may send it.
        if not guarded or path.startswith(_OPEN) or scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        key = self.keys.holder(_given(scope))
        if key is None:
            await _refuse(send, "error" if path.startswith("/v2/") else "detail")
            return
        with calling(key):
            await self.app(scope, receive, send)


def new_key(name: str, per_minute: float | None = None) -> tuple[str, str]:
    """A random key, and the line for the file of keys."""
    key = "deblur_" + secrets.token_urlsafe(32)
    line = f"{name} {digest_of(key)}" + (f" {per_minute:g}" if per_minute else "")
    return key, line


def read_keys(file: Path) -> Keys:
    """The keys of a file: in each line a name, the digest and, if limited, megapixels a minute.

    Raises:
        ConfigError: it cannot be read, or a line is not of this form.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the file of API keys {file} cannot be read ({error})") from None
    keys = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if words:
            keys.append(_key_of(words, f"{file}, line {number}"))
    if not keys:
        raise ConfigError(f"{file} holds no keys: make one with  deblur key NAME >> {file}")
    return Keys(keys)


def digest_of(key: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def _key_of(words: list[str], where: str) -> Key:
    try:
        name, digest, *limit = words
        if len(bytes.fromhex(digest)) != 32 or len(limit) > 1:
            raise ValueError
        per_minute = float(limit[0]) if limit else None
        if per_minute is not None and not 0 < per_minute < float("inf"):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{where}: expected  NAME DIGEST [MEGAPIXELS A MINUTE], as  deblur key NAME  prints it"
        ) from None
    return Key(name, digest.lower(), per_minute)


def _given(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].decode("latin-1").strip()
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
    return ""


async def _refuse(send: Send, name: str) -> None:
    sentence = "this server wants an API key: send it as  Authorization: Bearer KEY"
    body = json.dumps({name: sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
