"""Stage 7: the candidate becomes champion if it is better on the held-out pictures."""

from dataclasses import dataclass
from pathlib import Path

from components.prepare import PreparedData
from components.register import Registration
from deblur.data.layout import Averaging
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class Promotion:
    """The verdict on a version and why; ``champion`` is the number of the champion now, 0 without
    one. ``summary`` is the decision with its evidence in Markdown, empty if there was none to make.
    """

    version: int
    promoted: bool
    reason: str
    champion: int
    summary: str = ""


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

    address = f"models:/{registration.name}/{registration.version}"
    subset = read_manifest(Path(data.path)).subset
    return promote_version(address, data.path, split, subset, progress=progress)


def promote_version(
    version: str,
    data_root: str,
    split: str = "test",
    subset: Averaging = "blur",
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Promotion:
    """As ``promote``, for any registered version on any data set.

    Args:
        version: as ``models:/deblur-unet@candidate``, ``@candidate`` or ``3``.
        data_root: address of the data set to judge by, prepared or not.
        split: of the data.
        subset: which blurred folder.
        dry_run: decide, and neither record anything nor move an alias.
        progress: shows the pictures.

    Raises:
        ModelFileError: there is no such version, or one of the two cannot be run.
        DataError: there is no such data, or the split is empty.
        SetupError: the registry cannot be reached.
    """
    from deblur.gates.decision import decision_markdown
    from deblur.gates.trial import promote as try_version
    from deblur.registry import CHAMPION, alias_holder

    trial = try_version(data_root, version, split, subset, dry_run, progress)
    champion = alias_holder(CHAMPION, trial.version.name)
    decision = trial.decision
    return Promotion(
        version=trial.version.version,
        promoted=decision is None or decision.promoted,
        reason=decision.reason if decision else "it is the champion already",
        champion=champion.version if champion else 0,
        summary=decision_markdown(decision) if decision else "",
    )
