"""Stage 1: refuse data that cannot be trained on."""

from dataclasses import dataclass
from pathlib import Path

from deblur.data.blur import Averaging
from deblur.data.validation import inspect, require_usable
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class DataReport:
    """What was found, by split; ``blurred_psnr`` is the mean PSNR in dB of the blurred input."""

    data_root: str
    subset: str
    pairs: dict[str, int]
    scenes: dict[str, int]
    blurred_psnr: dict[str, float]


def validate(
    data_root: str, subset: Averaging = "blur", crop: int = 256, progress: Progress = SILENT
) -> DataReport:
    """Check every pair of a data set in the layout of GOPRO_Large.

    Raises:
        DataError: the folder is missing or empty, or some pairs cannot be used.
    """
    inspection = inspect(Path(data_root), subset, crop, progress)
    require_usable(Path(data_root), inspection)
    return DataReport(
        data_root=data_root,
        subset=subset,
        pairs=inspection.pairs,
        scenes=inspection.scenes,
        blurred_psnr=inspection.blurred_psnr,
    )
