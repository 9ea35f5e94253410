"""Deblurring picture files: one, or a folder with its subfolders."""

from dataclasses import dataclass
from pathlib import Path

from deblur.atomic import whole_file
from deblur.errors import DeblurError, PictureError
from deblur.evaluation import Predict
from deblur.images import SUFFIXES, encode_picture, read_picture, to_float, to_uint8
from deblur.progress import SILENT, Progress


@dataclass(frozen=True)
class PredictReport:
    """Files written, files left because they were there, and a sentence for each that failed."""

    written: int
    skipped: int
    problems: tuple[str, ...]


def predict_files(
    predict: Predict,
    source: Path,
    target: Path,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> PredictReport:
    """Deblur ``source`` into ``target``: file to file, or folder to folder with the same names.

    A picture that cannot be read is reported and does not stop the others. Files appear whole.

    Raises:
        DeblurError: there is nothing to do, or a single target exists already.
    """
    jobs = _jobs(source, target)
    single = source.is_file()
    if single and jobs[0][1].exists() and not overwrite:
        raise DeblurError(f"{jobs[0][1]} exists: name another file, or add --overwrite")
    written, skipped, problems = 0, 0, []
    with progress.task("deblur", len(jobs), "pictures") as advance:
        for picture_file, result_file in jobs:
            if result_file.exists() and not overwrite:
                skipped += 1
            else:
                try:
                    _predict_file(predict, picture_file, result_file)
                    written += 1
                except PictureError as error:
                    if single:
                        raise
                    problems.append(str(error))
            advance(1, picture_file.name)
    return PredictReport(written, skipped, tuple(problems))


def _jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    if source.is_dir():
        if target.is_file():
            raise DeblurError(f"{source} is a folder but {target} is a file: name a folder")
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        root, results = source.resolve(), target.resolve()
        if results == root:
            raise DeblurError(f"{source} is both source and target: name another folder")
        if results.is_relative_to(root):  # it would be read again by the next start
            own = source / results.relative_to(root)
            files = [p for p in files if not p.is_relative_to(own)]
        if not files:
            raise DeblurError(f"{source} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        return [(file, target / file.relative_to(source)) for file in files]
    if not source.is_file():
        raise DeblurError(f"there is no picture or folder {source}")
    result = target / source.name if target.is_dir() else target
    if result.suffix.lower() not in SUFFIXES:
        raise DeblurError(
            f"cannot tell the format of {result}: end its name in {', '.join(sorted(SUFFIXES))}"
        )
    return [(source, result)]


def _predict_file(predict: Predict, source: Path, target: Path) -> None:
    picture = read_picture(source)
    restored = picture.with_rgb(to_uint8(predict(to_float(picture.rgb))))
    encoded = encode_picture(restored, SUFFIXES[target.suffix.lower()])
    with whole_file(target) as partial:
        partial.write_bytes(encoded)
