"""Results of stages under digests of what the stages read, never under paths.

A result names files: a report, scores, a model. They are kept with it by their SHA-256, so a result
whose files are gone or have been overwritten is known to be of no use, and one that is taken for
another folder brings its files along.
"""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

import components
import deblur
from deblur.atomic import whole_file
from deblur.digests import file_sha256, json_sha256

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Result = TypeVar("Result")
#: Packages that decide what a stage computes, beside the code itself.
_PACKAGES = ("torch", "numpy", "pillow", "onnx", "onnxruntime")
_SOURCES = (".py", ".j2")
#: Parts of the library that no stage uses.
_APART = {"batch", "cli", "local"}


@dataclass(frozen=True)
class Kept:
    """What a stage returned, and the SHA-256 of the files it wrote, by their path below ``folder``.

    ``result`` holds the fields of the stage's dataclass; strings in it that are ``folder``, or
    below it, are paths.
    """

    result: dict[str, Any]
    folder: str
    files: dict[str, str]

    def is_whole(self) -> bool:
        """Whether all files are there as they were written."""
        return all(
            (path := Path(self.folder, name)).is_file() and file_sha256(path) == digest
            for name, digest in self.files.items()
        )


def keep(result: "DataclassInstance", folder: Path, files: Iterable[Path]) -> Kept:
    """A result with the files that belong to it, all of them below ``folder``."""
    digests = {file.relative_to(folder).as_posix(): file_sha256(file) for file in sorted(files)}
    return Kept(asdict(result), str(folder), digests)


def bring(kept: Kept, folder: Path, kind: type[Result]) -> Result:
    """The result, a dataclass of this kind, with its files in ``folder``, where it may not have
    been computed."""
    before, values = Path(kept.folder), kept.result
    if before.absolute() != folder.absolute():
        for name in kept.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as partial:
                shutil.copyfile(before / name, partial)
        values = {name: _moved(value, before, folder) for name, value in values.items()}
    return TypeAdapter(kind).validate_python(values)


def _moved(value: Any, before: Path, folder: Path) -> Any:
    if isinstance(value, str) and value and Path(value).is_relative_to(before):
        return str(folder / Path(value).relative_to(before))
    return value


def key(stage: str, *read: Any) -> str:
    """The name of a result: its stage, and a digest of plain values that say what was read."""
    return f"{stage}-{json_sha256([code_digest(), *read])}"


@cache
def code_digest() -> str:
    """SHA-256 over the sources of library and stages and the versions of what they compute with.

    A revision would not do: sources may be changed and not committed, or installed without git.
    """
    sources = {
        f"{package.__name__}/{file.relative_to(root).as_posix()}": file_sha256(file)
        for package in (deblur, components)
        for root in [Path(str(package.__file__)).parent]
        for file in root.rglob("*")
        if file.suffix in _SOURCES and file.relative_to(root).parts[0] not in _APART
    }
    return json_sha256([sources, {name: _version(name) for name in _PACKAGES}])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
