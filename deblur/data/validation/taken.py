"""Measures kept on disk as they are made, so that a start after an interruption goes on."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deblur.atomic import whole_file
from deblur.data.listing import Pair
from deblur.data.validation.measure import MEASURES_VERSION, PairMeasures

MEASURES = "measures.jsonl"


class Taken:
    """The file ``measures.jsonl`` of a folder: one line a pair, appended as pairs are measured."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / MEASURES
        folder.mkdir(parents=True, exist_ok=True)
        self._known = read_lines(self.file)
        # A start that was killed may have left half a line: the next begins on its own.
        torn = self.file.is_file() and not self.file.read_bytes().endswith(b"\n")
        self._out = self.file.open("a", encoding="utf-8", newline="\n")
        if torn:
            self._out.write("\n")

    def find(self, pair: Pair, stamped: list[str] | None) -> PairMeasures | None:
        """Measures of an earlier start, if both files are still as they were."""
        line = self._known.get((str(pair.blur), str(pair.sharp)))
        if stamped is None or line is None or line["stamp"] != stamped:
            return None
        return PairMeasures.from_json(line["measures"])

    def append(self, pair: Pair, stamped: list[str] | None, measures: PairMeasures) -> None:
        self._out.write(_line(pair, stamped, measures))
        self._out.flush()

    def replace(self, lines: Iterable[tuple[Pair, list[str] | None, PairMeasures]]) -> None:
        """Leave nothing but ``lines``, in their order: the set is complete."""
        self._out.close()
        with whole_file(self.file) as partial, partial.open("w", encoding="utf-8") as out:
            out.writelines(_line(*line) for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._out.close()


def read_lines(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last line of each pair. Torn lines and those of other versions are left out."""
    known = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            read = json.loads(line)
            if read["version"] == MEASURES_VERSION:
                PairMeasures.from_json(read["measures"])
                known[read["blur"], read["sharp"]] = {
                    "stamp": read["stamp"], "measures": read["measures"]
                }  # fmt: skip
        except (ValueError, KeyError, TypeError):
            continue
    return known


def _line(pair: Pair, stamped: list[str] | None, measures: PairMeasures) -> str:
    values = {
        "version": MEASURES_VERSION, "blur": str(pair.blur), "sharp": str(pair.sharp),
        "stamp": stamped, "measures": measures.as_json(),
    }  # fmt: skip
    # Addresses may hold what is no valid UTF-8, so everything is escaped.
    return json.dumps(values) + "\n"
