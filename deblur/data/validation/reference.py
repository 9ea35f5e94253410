"""What a data set is compared with to see whether it has drifted."""

import json
from pathlib import Path

from deblur.data.listing import Pair
from deblur.data.manifest import is_prepared, read_manifest
from deblur.data.pairs import PreparedPairs
from deblur.data.validation.checks import COMPARED, distributions
from deblur.data.validation.findings import Entry
from deblur.data.validation.measure import luma, read_measures, sharpness
from deblur.errors import DataError
from deblur.metrics import psnr

REPORT = "report.json"
#: Prepared pairs that are measured of each split: enough for the test to see a drift that matters.
_MEASURED = 200


def read_reference(reference: Path) -> dict[str, list[float]]:
    """Values of another version by quantity: from the folder or the ``report.json`` of its
    validation, or measured on its prepared data.

    Raises:
        DataError: it holds none.
    """
    if is_prepared(reference):
        return _prepared(reference)
    report = reference / REPORT if reference.is_dir() else reference
    try:
        values = json.loads(report.read_text(encoding="utf-8"))["distributions"]
        return {key: [float(value) for value in values[key]] for key in COMPARED}
    except (OSError, ValueError, KeyError, TypeError):
        measures = read_measures(reference)
    if not measures:
        raise DataError(
            f"{reference} holds no report of an earlier validation: expected its folder, its "
            f"{REPORT} or a prepared data set; make a report with  deblur data validate"
        )
    pair = Pair("", "", Path(), Path())
    return distributions([Entry("", pair, read) for read in measures])


def _prepared(folder: Path) -> dict[str, list[float]]:
    """Measured on pairs of a prepared data set, evenly spaced over its splits."""
    values: dict[str, list[float]] = {key: [] for key in COMPARED}
    for split in read_manifest(folder).splits.values():
        pairs = PreparedPairs(folder, split)
        for index in range(0, len(pairs), -(-len(pairs) // _MEASURED)):
            blurred, sharp = pairs.read(index)
            grey = luma(sharp)
            value = psnr(blurred, sharp)
            if value < float("inf"):
                values["psnr"].append(value)
            values["level"].append(float(grey.mean()))
            values["sharpness"].append(sharpness(grey))
    return values
