"""Settings that a person writes: ``key=value`` read, and what is wrong said in one sentence."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from deblur.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def parse_overrides(assignments: list[str]) -> dict[str, str]:
    """``["batch_size=4"]`` as a dictionary.

    Raises:
        ConfigError: an entry is not of the form ``key=value``.
    """
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key or not value:
            raise ConfigError(
                f"'{assignment}' is not a setting: expected key=value, as batch_size=4"
            )
        parsed[key.strip()] = value.strip()
    return parsed


def read_toml(file: Path | None, what: str, example: str) -> dict[str, Any]:
    """The settings of a TOML file; none without a file.

    Args:
        file: to be read.
        what: it holds, and ``example`` a line of such a file; both for the error.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{what} {file} cannot be read ({error}): expected TOML with lines as {example}"
        ) from None


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``{"shake.longest": 20}`` as ``{"shake": {"longest": 20}}``.

    Raises:
        ConfigError: a key is set both as a whole and in part.
    """
    whole: dict[str, Any] = {}
    for key, value in overrides.items():
        top, dot, rest = key.partition(".")
        if not dot:
            whole[key] = value
        elif isinstance(whole.setdefault(top, {}), dict):
            whole[top] = {**whole[top], rest: value}
        else:
            raise ConfigError(f"'{top}' is set to {whole[top]!r} and '{key}' too: choose one")
    return whole


def build(model: type[Model], overrides: Mapping[str, Any], what: str) -> Model:
    """A configuration with some fields changed; strings are read as the field's type.

    Raises:
        ConfigError: an unknown field (with the nearest one named), or a bad value.
    """
    try:
        return model(**nested(overrides))
    except ValidationError as error:
        raise ConfigError(readable(error, model.model_fields, what)) from None


def readable(error: ValidationError, known: Iterable[str], what: str) -> str:
    """A pydantic error as a sentence.

    Args:
        error: what validation raised.
        known: the keys there are, to name the one nearest to an unknown key.
        what: what was validated, as "training configuration".
    """
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "configuration"
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key '{key}'{nearest(key, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            found = f"{key} = {problem['input']!r}: " if problem["loc"] else ""
            problems.append(found + message)
    return f"the {what} is not valid: " + "; ".join(problems)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the known one nearest to it, or all known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"
