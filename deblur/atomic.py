"""Files that appear whole or not at all."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Windows refuses to replace a file for as long as anybody reads it; elsewhere readers do no harm.
_PATIENCE = 10.0 if os.name == "nt" else 0.0


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place when the block ends well.

    Whatever goes wrong before, ``path`` stays as it was and nothing half-written is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # One left by a killed process of the same number, as in containers, may be a link to another
    # file, which would be written to.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        # Flushed before the name changes, or a power cut could leave an empty file under it.
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        _replace(partial, path)
        flush_folder(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Give the file its name, as soon as nobody reads the one that has it."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            partial.replace(path)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)


def flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; where folders cannot be flushed (Windows, some
    network file systems) the file system sees to it.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # As PostgreSQL's fsync_fname takes it.
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
