"""The aliases ``champion`` and ``previous``: promoted, taken back, and repaired after a crash.

MLflow sets one alias at a time. What both are to become is therefore written down first, as a tag
of the registered model, and removed when they have: whoever moves them next finishes what a crash
left half done. At no moment is there a champion less than before.
"""

import json
import logging
from datetime import UTC, datetime

from deblur.errors import ModelFileError
from deblur.registry import (
    CHAMPION,
    MODEL_NAME,
    PREVIOUS,
    Version,
    alias_holder,
    find_version,
    model_tag,
    set_alias,
    set_model_tag,
    set_tags,
)

log = logging.getLogger(__name__)

#: The tag that says what the aliases are being moved to.
MOVING = "moving"


def make_champion(version: Version) -> Version | None:
    """Let ``version`` be the champion and the champion so far ``previous``.

    Returns:
        The champion so far; ``None`` if there was none. That of a version which is the champion
        already is ``previous``: nothing changes.

    Raises:
        SetupError: the store cannot be reached; calling it again finishes the move.
    """
    finish_move(version.name)
    champion = alias_holder(CHAMPION, version.name)
    if champion is not None and champion.version == version.version:
        return alias_holder(PREVIOUS, version.name)
    _move(version.name, version.version, champion.version if champion else None, "promotion")
    return champion


def roll_back(to: str | None = None, name: str = MODEL_NAME) -> tuple[Version, Version]:
    """Let ``previous``, or a version that is named, be the champion again.

    The champion so far becomes ``previous``, so that a rollback can be rolled back. Both versions
    get a tag with the time. A rollback that was interrupted is finished and nothing else happens,
    so that it can be repeated until it succeeds.

    Args:
        to: the version, as ``3`` or ``@candidate``.
        name: the registered model.

    Returns:
        The champion now, and the one before.

    Raises:
        ModelFileError: there is nothing to go back to.
        SetupError: the store cannot be reached; calling it again finishes the move.
    """
    if finish_move(name) != "rollback":
        champion = alias_holder(CHAMPION, name)
        if champion is None:
            raise ModelFileError(
                f"{name} has no champion, so there is nothing to roll back: promote a version with "
                " deblur promote"
            )
        target = find_version(to) if to is not None else alias_holder(PREVIOUS, name)
        if target is None:
            raise ModelFileError(
                f"version {champion.version} is the first champion of {name}, there is none to go "
                "back to: name a version with --to; deblur registry ls lists them"
            )
        if target.name != name:
            raise ModelFileError(
                f"{target.address} is not a version of {name}: name one that  deblur registry ls  "
                "lists"
            )
        if target.version == champion.version:
            raise ModelFileError(
                f"version {champion.version} is the champion of {name} already: name another one "
                "with --to"
            )
        _move(name, target.version, champion.version, "rollback")
    now, before = alias_holder(CHAMPION, name), alias_holder(PREVIOUS, name)
    assert now is not None and before is not None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    set_tags(now, {"rollback": f"{at} champion again, in the place of version {before.version}"})
    set_tags(before, {"rollback": f"{at} taken back, version {now.version} is champion"})
    return now, before


def finish_move(name: str = MODEL_NAME) -> str | None:
    """Finish a move that was interrupted: ``promotion``, ``rollback`` or ``None`` if there is none.

    Raises:
        SetupError: the store cannot be reached.
    """
    written = model_tag(MOVING, name)
    if written is None:
        return None
    goal = json.loads(written)
    log.warning("an interrupted move of the champion of %s is finished: %s", name, written)
    _write(name, goal["champion"], goal["previous"])
    return str(goal["why"])


def _move(name: str, champion: int, previous: int | None, why: str) -> None:
    goal = {"why": why, "champion": champion, "previous": previous}
    set_model_tag(MOVING, json.dumps(goal), name)
    _write(name, champion, previous)


def _write(name: str, champion: int, previous: int | None) -> None:
    set_alias(CHAMPION, champion, name)
    if previous is not None:
        set_alias(PREVIOUS, previous, name)
    set_model_tag(MOVING, None, name)
