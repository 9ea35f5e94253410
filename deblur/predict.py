"""Deblurring picture files: one, or a folder with its subfolders."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


#: A picture file to the encoded deblurred picture, in a format of ``FORMATS``.
Restore = Callable[[Path, str], bytes]


def predict_files(
    predict: Predict,
    source: Path,
    target: Path,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> PredictReport:
    """``deblur_files`` with a model in this process."""

    def restore(file: Path, format: str) -> bytes:
        picture = read_picture(file)
        restored = picture.with_rgb(to_uint8(predict(to_float(picture.rgb))))
        return encode_picture(restored, format)

    return deblur_files(restore, source, target, overwrite, progress)


def deblur_files(
    restore: Restore,
    source: Path,
    target: Path,
    overwrite: bool = False,
    progress: Progress = SILENT,
    side_by_side: int = 1,
) -> PredictReport:
    """Deblur ``source`` into ``target``: file to file, or folder to folder with the same names.

    A picture that cannot be read is reported and does not stop the others. Files appear whole.

    Args:
        restore: deblurs one file.
        source, target: files or folders.
        overwrite: replace files that exist; otherwise they are skipped.
        progress: shows how far it is.
        side_by_side: pictures at a time.

    Raises:
        DeblurError: there is nothing to do, or a single target exists already.
    """
    jobs = _jobs(source, target)
    single = source.is_file()
    if single and jobs[0][1].exists() and not overwrite:
        raise DeblurError(f"{jobs[0][1]} exists: name another file, or add --overwrite")
    todo = [job for job in jobs if overwrite or not job[1].exists()]
    problems: list[str] = []

    def one(job: tuple[Path, Path]) -> None:
        picture_file, result_file = job
        try:
            encoded = restore(picture_file, SUFFIXES[result_file.suffix.lower()])
        except PictureError as error:
            if single:
                raise
            problems.append(str(error))
        else:
            with whole_file(result_file) as partial:
                partial.write_bytes(encoded)
        advance(1, picture_file.name)

    with progress.task("deblur", len(jobs), "pictures", len(jobs) - len(todo)) as advance:
        if side_by_side == 1:
            for job in todo:
                one(job)
        else:
            with ThreadPoolExecutor(side_by_side) as pool:
                try:
                    for done in [pool.submit(one, job) for job in todo]:
                        done.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return PredictReport(len(todo) - len(problems), len(jobs) - len(todo), tuple(problems))


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
