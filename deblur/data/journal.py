"""What was found in the files of each pair, kept on disk as it is found.

Work that looks at every pair goes on after an interruption, and the next time takes over what it
found in files that have not changed.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TextIO, TypeVar

from deblur.atomic import whole_file
from deblur.data.listing import Pair

Found = TypeVar("Found")
#: States of both files of a pair, as ``listing.state_of_pair`` tells them.
States = list[str] | None


class Journal(Generic[Found]):
    """A file of JSON lines, one a pair. It only ever saves work: lines that are torn, of another
    version or of files that have changed are as good as none.

    Args:
        file: where it is kept.
        what: what its lines call what was found.
        version: raised whenever the same files give something else than before.
        parse: makes of plain values what was found; raises ValueError, KeyError or TypeError.
        plain: the reverse.
    """

    def __init__(
        self,
        file: Path,
        what: str,
        version: int,
        parse: Callable[[Any], Found],
        plain: Callable[[Found], Any],
    ) -> None:
        self.file, self.what, self.version, self.plain = file, what, version, plain
        self._known = read_journal(file, what, version, parse)
        self._out: TextIO | None = None

    def find(self, pair: Pair, states: States) -> Found | None:
        """What was found earlier, if both files are still as they were."""
        known = self._known.get((str(pair.blur), str(pair.sharp)))
        return known[1] if states is not None and known and known[0] == states else None

    def append(self, pair: Pair, states: States, found: Found) -> None:
        """Keep what was found. ``states`` are those before the files were read: a change in the
        meantime is noticed next time."""
        if self._out is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # A start that was killed may have left half a line: the next begins on its own.
            content = self.file.read_bytes() if self.file.is_file() else b""
            self._out = self.file.open("a", encoding="utf-8", newline="\n")
            self._out.write("" if content.endswith(b"\n") or not content else "\n")
        self._out.write(self._line(pair, states, found))
        self._out.flush()

    def replace(self, lines: Iterable[tuple[Pair, States, Found]]) -> None:
        """Leave nothing but ``lines``, in their order: the set is complete."""
        self.close()
        with whole_file(self.file) as partial, partial.open("w", encoding="utf-8") as out:
            out.writelines(self._line(*line) for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._out is not None:
            self._out.close()

    def _line(self, pair: Pair, states: States, found: Found) -> str:
        values = {
            "version": self.version, "blur": str(pair.blur), "sharp": str(pair.sharp),
            "stamp": states, self.what: self.plain(found),
        }  # fmt: skip
        # Addresses may hold what is no valid UTF-8, so everything is escaped.
        return json.dumps(values) + "\n"


def read_journal(
    file: Path, what: str, version: int, parse: Callable[[Any], Found]
) -> dict[tuple[str, str], tuple[States, Found]]:
    """The last line of each pair. Torn lines and those of other versions are left out."""
    known = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            read = json.loads(line)
            if read["version"] == version:
                known[read["blur"], read["sharp"]] = read["stamp"], parse(read[what])
        except (ValueError, KeyError, TypeError):
            continue
    return known
