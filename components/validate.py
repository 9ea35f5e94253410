"""Stage 1: look at every pair, and refuse data that cannot be trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblur.data.layout import Averaging
from deblur.data.listing import kind_of, list_data, state_of_pair
from deblur.data.storage import Location, location
from deblur.digests import json_sha256
from deblur.errors import DataError
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class DataReport:
    """What was found, by split; ``blurred_psnr`` is the mean PSNR in dB of the blurred input.

    Attributes:
        report: folder of ``report.html`` and ``report.json``.
        summary: the findings in Markdown.
        warnings: how many there are.
        refusal: why the data cannot be trained on; empty if it can.
    """

    data_root: str
    subset: str
    pairs: dict[str, int]
    scenes: dict[str, int]
    blurred_psnr: dict[str, float]
    report: str
    summary: str
    warnings: int
    refusal: str


def validate(
    data_root: str,
    out: str,
    subset: Averaging = "blur",
    crop: int = 256,
    checks: Mapping[str, Any] | None = None,
    reference: str | None = None,
    progress: Progress = SILENT,
) -> DataReport:
    """Check every pair of a data set, and write a report into the folder ``out``.

    What is wrong is in the report; ``require_usable`` makes a gate of it.

    Args:
        data_root: address of the data set.
        out: folder of the report; an interrupted validation goes on there.
        subset: which blurred folder.
        crop: side of the training crops in pixels.
        checks: what differs from the default rules, as ``{"misaligned.threshold": 3}``.
        reference: report of an earlier version, to see drift against it.
        progress: shows the pairs.

    Raises:
        DataError: there is no such data.
        ConfigError: ``checks`` names an unknown rule or a bad value.
    """
    from deblur.data.validation import make_validation_config, validate_data
    from deblur.data.validation.report import markdown_summary

    validation = validate_data(
        data_root,
        subset,
        crop,
        make_validation_config(dict(checks or {})),
        Path(reference) if reference else None,
        Path(out),
        progress,
    )
    try:
        validation.require_usable()
        refusal = ""
    except DataError as error:
        refusal = str(error)
    return DataReport(
        data_root=data_root,
        subset=subset,
        pairs=validation.pairs,
        scenes=validation.scenes,
        blurred_psnr=validation.blurred_psnr,
        report=out,
        summary=markdown_summary(validation),
        warnings=len(validation.warnings),
        refusal=refusal,
    )


def data_state(data_root: str, subset: Averaging = "blur") -> str | None:
    """A digest of what a data set holds, from its listing alone: which pairs, of which size, last
    changed when. No picture is opened. The same data elsewhere, with its times, has the same.

    Returns:
        SHA-256 in hexadecimal; ``None`` where the store does not tell whether a file has changed.

    Raises:
        DataError: there is no such data.
    """
    listing = list_data(data_root, subset)
    states = {
        split: [[pair.scene, pair.name, state_of_pair(pair)] for pair in pairs]
        for split, pairs in listing.splits.items()
    }
    if any(state is None for pairs in states.values() for _, _, state in pairs):
        return None
    unpaired = [_below(data_root, lone.picture) for lone in listing.unpaired]
    return json_sha256([listing.layout, kind_of(listing), subset, states, unpaired])


def _below(data_root: str, picture: Location) -> str:
    """The path of a picture within its data set."""
    return str(picture).removeprefix(str(location(data_root)))


def require_usable(report: DataReport) -> DataReport:
    """The gate: the report as it is.

    Raises:
        DataError: the data cannot be trained on.
    """
    if report.refusal:
        raise DataError(report.refusal)
    return report
