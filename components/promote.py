"""Stage 7: the candidate becomes champion if it is better on the held-out pictures."""

from dataclasses import dataclass
from pathlib import Path

from components.prepare import PreparedData
from components.register import Registration
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class Promotion:
    """The verdict on a version and why; ``champion`` is the number of the champion now, 0 without
    one."""

    version: int
    promoted: bool
    reason: str
    champion: int


def promote(
    registration: Registration,
    data: PreparedData,
    split: str = "test",
    progress: Progress = SILENT,
) -> Promotion:
    """Measure the registered version and the champion on the same pictures, and decide.

    Decision and evidence are kept with the version. Promoting the champion again changes nothing.

    Raises:
        ModelFileError: one of the two cannot be run.
    """
    from deblur.data.manifest import read_manifest
    from deblur.gates.trial import promote as promote_version
    from deblur.registry import CHAMPION, alias_holder

    address = f"models:/{registration.name}/{registration.version}"
    subset = read_manifest(Path(data.path)).subset
    trial = promote_version(data.path, address, split, subset, progress=progress)
    champion = alias_holder(CHAMPION, registration.name)
    return Promotion(
        version=registration.version,
        promoted=trial.decision is None or trial.decision.promoted,
        reason=trial.decision.reason if trial.decision else "it is the champion already",
        champion=champion.version if champion else 0,
    )
