"""The stages as Prefect tasks: what is retried, and what is taken from earlier runs.

``components`` does the work. Flows call the functions at the end of this file, which also show what
a stage came to; see ``docs/pipelines.md``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import Task, exponential_backoff

import components.evaluate
import components.export
import components.prepare
import components.promote
import components.register
import components.train
import components.validate
from components.evaluate import EvalResult
from components.export import ExportResult
from components.prepare import PreparedData
from components.promote import Promotion
from components.register import Registration
from components.train import TrainResult
from components.validate import DataReport
from deblur.data.layout import Averaging
from deblur.digests import file_sha256
from deblur.errors import DeblurError
from deblur.progress import for_terminal
from pipelines import artifacts
from pipelines.caching import Kept, bring, keep, key
from pipelines.faults import passes
from pipelines.healing import signals_passed_on

Result = TypeVar("Result")


def may_pass(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question whether to try again."""
    error = state.data
    return isinstance(error, BaseException) and passes(error)


#: After about 10, 20 and 40 s: a store that is started again is there by then.
RETRIED: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
}
#: Never a pickle: results are read by whatever version of the code comes later.
CACHED: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}
#: Nothing of these is read again: they go on where they were, or have effects elsewhere.
UNCACHED: dict[str, Any] = {"persist_result": False}


def _validation_key(context: TaskRunContext, given: dict[str, Any]) -> str | None:
    try:
        state = components.validate.data_state(given["data_root"], given["subset"])
    except DeblurError:
        return None  # the stage itself says what is wrong
    if state is None:
        return None
    rules, reference = given["checks"], _contents(given["reference"])
    return key("validate", state, given["subset"], given["crop"], rules, reference)


def _contents(reference: str | None) -> list[str]:
    """Digests of what holds an earlier version's values."""
    if reference is None:
        return []
    path = Path(reference)
    files = sorted(path.glob("*.json*")) if path.is_dir() else [path]
    return [file_sha256(file) for file in files if file.is_file()]


def _evaluation_key(context: TaskRunContext, given: dict[str, Any]) -> str:
    training, data = given["training"], given["data"]
    # The figures are also recorded in the run, so another run needs them anew.
    checkpoint = file_sha256(Path(training.checkpoint))
    return key("evaluate", checkpoint, training.run_id, data.digest, given["split"])


def _export_key(context: TaskRunContext, given: dict[str, Any]) -> str:
    training, evaluation, data = given["training"], given["evaluation"], given["data"]
    checkpoint = file_sha256(Path(training.checkpoint))
    return key("export", checkpoint, evaluation.split, evaluation.metrics, data.digest, data.kind)


@task(name="validate", cache_key_fn=_validation_key, **CACHED, **RETRIED)
def _validate(
    data_root: str,
    out: str,
    subset: Averaging,
    crop: int,
    checks: dict[str, Any],
    reference: str | None,
) -> Kept:
    report = components.validate.validate(
        data_root, out, subset, crop, checks, reference, for_terminal()
    )
    return keep(report, Path(out), Path(out).glob("report.*"))


@task(name="prepare", **UNCACHED, **RETRIED)
def _prepare(data_root: str, out: str, subset: Averaging) -> PreparedData:
    return components.prepare.prepare(data_root, out, subset, for_terminal())


@task(name="train", **UNCACHED, **RETRIED)
def _train(
    data: PreparedData, out: str, recipe: str, overrides: dict[str, Any], report: str
) -> TrainResult:
    with signals_passed_on():
        return components.train.train(data, out, recipe, overrides, report, for_terminal())


@task(name="evaluate", cache_key_fn=_evaluation_key, **CACHED, **RETRIED)
def _evaluate(training: TrainResult, data: PreparedData, split: str) -> Kept:
    result = components.evaluate.evaluate(training, data, split, for_terminal())
    files = (path for path in Path(result.report).iterdir() if path.is_file())
    return keep(result, Path(training.checkpoint).parent, [Path(result.scores_path), *files])


@task(name="export", cache_key_fn=_export_key, **CACHED, **RETRIED)
def _export(training: TrainResult, evaluation: EvalResult, data: PreparedData) -> Kept:
    result = components.export.export(training, evaluation, data)
    files = [Path(name) for name in (result.path, result.safetensors) if name]
    return keep(result, Path(training.checkpoint).parent, files)


@task(name="register", **UNCACHED, **RETRIED)
def _register(
    training: TrainResult, evaluation: EvalResult, exported: ExportResult, data: PreparedData
) -> Registration:
    return components.register.register(training, evaluation, exported, data)


@task(name="promote", **UNCACHED, **RETRIED)
def _promote(
    version: str, data_root: str, split: str, subset: Averaging, dry_run: bool
) -> Promotion:
    return components.promote.promote_version(
        version, data_root, split, subset, dry_run, for_terminal()
    )


@task(name="evaluate-model", **UNCACHED, **RETRIED)
def _evaluate_model(
    model: str, data_root: str, out: str, split: str, subset: Averaging
) -> EvalResult:
    return components.evaluate.evaluate_model(model, data_root, out, split, subset, for_terminal())


def validate(
    data_root: str,
    out: str,
    subset: Averaging,
    crop: int,
    checks: dict[str, Any],
    reference: str | None,
) -> DataReport:
    """The report on a data set that can be trained on.

    Raises:
        DataError: it cannot; the report is shown all the same.
    """
    given = data_root, out, subset, crop, checks, reference
    report = replace(_cached(DataReport, _validate, Path(out), *given), data_root=data_root)
    artifacts.show_validation(report)
    return components.validate.require_usable(report)


def prepare(data_root: str, out: str, subset: Averaging) -> PreparedData:
    """The prepared data in the folder ``out``."""
    return _prepare(data_root, out, subset)


def train(
    data: PreparedData, out: str, recipe: str, overrides: dict[str, Any], report: DataReport
) -> TrainResult:
    """A training in the folder ``out``, from its last checkpoint on if it has one.

    Raises:
        ConfigError, CheckpointError: as ``components.train.train`` says.
    """
    training = _train(data, out, recipe, overrides, report.report)
    artifacts.show_training(training)
    return training


def evaluate(training: TrainResult, data: PreparedData, split: str = "test") -> EvalResult:
    """The figures of the best checkpoint, recorded in the MLflow run of its training."""
    folder = Path(training.checkpoint).parent
    result = _cached(EvalResult, _evaluate, folder, training, data, split)
    artifacts.show_evaluation(result, folder.name)
    return result


def export(training: TrainResult, evaluation: EvalResult, data: PreparedData) -> ExportResult:
    """The ONNX file beside the checkpoint.

    Raises:
        ModelFileError: it differs from torch.
    """
    folder = Path(training.checkpoint).parent
    return _cached(ExportResult, _export, folder, training, evaluation, data)


def register(
    training: TrainResult, evaluation: EvalResult, exported: ExportResult, data: PreparedData
) -> Registration:
    """The version in the registry, with the alias ``candidate``."""
    registration = _register(training, evaluation, exported, data)
    artifacts.show_version(registration)
    return registration


def promote(
    version: str, data_root: str, split: str, subset: Averaging, dry_run: bool = False
) -> Promotion:
    """The gate's decision. That it refuses is a result like another."""
    promotion = _promote(version, data_root, split, subset, dry_run)
    artifacts.show_decision(promotion)
    return promotion


def evaluate_model(
    model: str, data_root: str, out: str, split: str, subset: Averaging
) -> EvalResult:
    """The figures of any model, with a report in the folder ``out``."""
    result = _evaluate_model(model, data_root, out, split, subset)
    artifacts.show_evaluation(result, f"{model} on {data_root}")
    return result


def _cached(kind: type[Result], stage: Task[Any, Kept], folder: Path, *given: Any) -> Result:
    """The result of a stage with its files in ``folder``, from an earlier run if it is still good.

    Data that was refused is looked at again: it may have been out of reach for a moment.
    """
    state: Any = stage(*given, return_state=True)
    kept: Kept = state.result()
    if state.name == "Cached" and (kept.result.get("refusal") or not kept.is_whole()):
        kept = stage.with_options(refresh_cache=True)(*given)
    return bring(kept, folder, kind)
