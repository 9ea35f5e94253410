"""Names of data, configurations, models and code: SHA-256 digests and the git revision."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Digest of plain values, the same whatever the order of the keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fraction_of(text: str) -> float:
    """A number in [0, 1) that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def code_revision() -> str:
    """The git revision of this code, with ``-dirty`` where files differ, or ``unknown``."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
