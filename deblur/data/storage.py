"""Where data lies: a local path, or any address that fsspec knows (``s3://bucket/folder``)."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from deblur.atomic import whole_file
from deblur.errors import DataError, SetupError

if TYPE_CHECKING:
    from upath import UPath

#: Both have the methods of ``pathlib.Path`` that reading needs.
Location: TypeAlias = Union[Path, "UPath"]

#: What stores call the thing that changes with a file's contents, in the order of trust.
_MARKS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def location(address: str | Location) -> Location:
    """A path for a local address, a ``UPath`` for one with a scheme such as ``s3://``.

    Raises:
        SetupError: the package that reads such addresses is missing.
    """
    if "://" not in str(address):
        return Path(str(address))
    try:
        from upath import UPath

        opened = UPath(str(address))
        _ = opened.fs  # made on first use, and where a missing package shows
    except ImportError as error:
        raise SetupError(
            f"{address} cannot be read: {error}. For s3:// addresses:  pip install -e '.[s3]'"
        ) from None
    except ValueError as error:
        raise DataError(f"{address} is not an address that can be read: {error}") from None
    return opened


def list_files(folder: Location) -> list[str]:
    """All files below ``folder``, as sorted relative paths with forward slashes.

    Hidden files and folders are left out: macOS and copying tools leave pictures' names there.

    Raises:
        DataError: the store cannot be reached.
    """
    if isinstance(folder, Path):
        found = [
            Path(parent, name).relative_to(folder).as_posix()
            for parent, _, names in os.walk(folder, followlinks=True)
            for name in names
        ]
    else:
        with reachable(folder):
            top = folder.path.rstrip("/") + "/"
            found = [path.removeprefix(top) for path in folder.fs.find(folder.path)]
    return sorted(f for f in found if not _hidden(f))


def list_states(folder: Location) -> dict[str, tuple[int, str | None]]:
    """The files of ``list_files`` with their size in bytes and the word of ``state_of``, from the
    listing alone; nothing of a folder that does not exist.

    Raises:
        DataError: the store cannot be reached.
    """
    if isinstance(folder, Path):
        return {name: _size_and_state(folder / name) for name in list_files(folder)}
    with reachable(folder):
        top = folder.path.rstrip("/") + "/"
        found = folder.fs.find(folder.path, detail=True)
    return {
        name: (int(told.get("size") or 0), _word_of(told))
        for name, told in sorted((path.removeprefix(top), told) for path, told in found.items())
        if name and not _hidden(name)
    }


def write_file(file: Location, content: bytes) -> None:
    """Write a file that appears whole or not at all; folders are made as needed.

    Raises:
        DataError: the store cannot be reached, or refuses.
        OSError: a local file cannot be written.
    """
    if isinstance(file, Path):
        with whole_file(file) as partial:
            partial.write_bytes(content)
        return
    with reachable(file, "written"):
        file.fs.pipe_file(file.path, content)


def read_bytes(file: Location) -> bytes:
    """The whole content of a file.

    Raises:
        DataError: the store cannot be reached, or refuses.
        FileNotFoundError: there is no such file.
        OSError: a local file cannot be read.
    """
    with reachable(file):
        return file.read_bytes()


def read_file(file: Location) -> bytes:
    """As ``read_bytes``, with every fault in a sentence.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    try:
        return read_bytes(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist: restore it, or remove it from the list") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def state_of(file: Location) -> str | None:
    """A word that changes when the file does: its size and the time or tag that its store keeps.

    ``None`` where there is no such file or the store tells nothing.

    Raises:
        DataError: the store cannot be reached.
    """
    try:
        if isinstance(file, Path):
            return _size_and_state(file)[1]
        with reachable(file):
            told = file.fs.info(file.path)
    except OSError:
        return None
    return _word_of(told)


def forget_listings(address: Location) -> None:
    """Have the store asked again: fsspec remembers listings, and with them the files' states."""
    if not isinstance(address, Path):
        address.fs.invalidate_cache()


@contextmanager
def reachable(address: Location, to_be: str = "read") -> Iterator[None]:
    """Turn what stores raise (refused, no such bucket, wrong key) into a ``DataError``."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, DataError | FileNotFoundError) or isinstance(address, Path):
            raise
        said = str(error) or type(error).__name__
        raise DataError(
            f"{address} cannot be {to_be} ({said}): check the address, and the store's credentials "
            "in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a "
            "store of your own, AWS_ENDPOINT_URL)"
        ) from None


def _size_and_state(file: Path) -> tuple[int, str | None]:
    try:
        status = file.stat()
    except OSError:  # a link to nowhere: whoever reads it is told
        return 0, None
    return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"


def _word_of(told: Mapping[str, Any]) -> str | None:
    """What a store tells of a file, as a word that changes with it."""
    mark = next((told[name] for name in _MARKS if told.get(name) is not None), None)
    return None if mark is None else f"{told.get('size')}-{mark}"


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
