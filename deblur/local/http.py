"""Questions to servers on this machine."""

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from deblur.errors import SetupError

#: A proxy of the environment is for other machines.
_DIRECT = build_opener(ProxyHandler({}))


def answers(url: str, seconds: float = 3.0) -> bool:
    """Whether it answers with 200 within ``seconds``."""
    try:
        with _DIRECT.open(url, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def ask(url: str, body: Any = None, seconds: float = 10.0) -> Any:
    """The JSON that it answers, ``None`` at 404. A ``body`` is posted as JSON.

    Raises:
        SetupError: it does not answer, or with another error, or not with JSON.
    """
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"})
    try:
        with _DIRECT.open(request, timeout=seconds) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise SetupError(f"{url} answers {error.code}: look into its log") from None
    except (OSError, HTTPException, ValueError) as error:
        raise SetupError(f"{url} does not answer ({error}): look into its log") from None
