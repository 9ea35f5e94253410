"""Faults that pass by themselves, and those that do not.

A network, a store or a locked database is there again after a while. Bad data, a bad configuration
and a full disk are as they are, and trying again only hides the message.
"""

import errno
import sqlite3
from collections.abc import Iterator

from deblur.errors import SetupError, StoppedError

#: What an ``OSError`` says when a network or what lies behind it is away for a moment.
_PASSING = {
    getattr(errno, name)
    for name in (
        "EAGAIN", "EBUSY", "EINTR", "EIO", "ESTALE", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET",
        "ECONNABORTED", "EHOSTUNREACH", "EHOSTDOWN", "ENETDOWN", "ENETUNREACH", "ENETRESET",
        "EPIPE",
    )
    if hasattr(errno, name)
}  # fmt: skip
#: Classes of other packages, by name, as none of them is to be loaded for being looked for: of
#: requests, urllib3, httpx, aiohttp and botocore, and of name resolution.
_CONNECTION = {
    "ConnectionError", "Timeout", "TransportError", "ClientConnectionError", "ConnectTimeoutError",
    "ServerTimeoutError", "HTTPClientError", "EndpointConnectionError", "MaxRetryError", "gaierror",
    "TimeoutError",
}  # fmt: skip
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
#: How a store says that it is full, or that its driver is missing.
_LASTING = ("disk is full", "No space left", "No module named")
_UNREACHABLE = ("cannot be reached", "does not answer", "stopped answering")
_BUSY, _SERVER = 429, 500


def passes(error: BaseException) -> bool:
    """Whether what raised ``error`` may succeed if it is tried again.

    Errors for people are raised in the place of others; those are looked at as well.
    """
    chain = list(_chain(error))
    return not any(map(_lasts, chain)) and any(map(_passes, chain))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _lasts(error: BaseException) -> bool:
    if isinstance(error, StoppedError) or any(words in str(error) for words in _LASTING):
        return True
    # A lock that another process holds, perhaps for hours: its message is wanted now.
    locked = type(error).__module__.partition(".")[0] == "filelock"
    return locked or (isinstance(error, OSError) and error.errno in _FULL)


def _passes(error: BaseException) -> bool:
    if isinstance(error, SetupError):
        return any(words in str(error) for words in _UNREACHABLE)
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error) or "busy" in str(error)
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    names = {base.__name__ for base in type(error).__mro__}
    if names & _CONNECTION:
        return True
    status = _status(error)
    return status is not None and (status >= _SERVER or status == _BUSY)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of a client stands for."""
    ask = getattr(error, "get_http_status_code", None)  # MLflow's
    if callable(ask):
        return int(ask())
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore's
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(answer, "status_code", None)  # requests' and httpx's
    return status if isinstance(status, int) else None
