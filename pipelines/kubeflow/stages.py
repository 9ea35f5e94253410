"""The stages as KFP components: artifacts and JSON to the dataclasses of ``components`` and back.

KFP runs a component from its source text, so each imports what it calls. Those that may be cached
take no artifacts: an artifact's address is new in each run, and says nothing of what is in it.
"""

from functools import partial

from kfp.dsl import (
    HTML,
    Artifact,
    Dataset,
    Input,
    Markdown,
    Metrics,
    Model,
    Output,
    PipelineTaskFinalStatus,
    component,
)

from pipelines.kubeflow.settings import IMAGE

#: Everything is in the image. The pipeline puts another image in the place of this one.
stage = partial(component, base_image=IMAGE, packages_to_install=[], install_kfp_package=False)


@stage
def identify(data_root: str, subset: str, recipe: str, overrides: dict, reference: str) -> dict:
    """What is to be read, by digest, which later stages are cached by; the settings are checked."""
    from deblur.training.config import make_config
    from pipelines.kubeflow.handing import begin, version_of

    begin()
    config = make_config(recipe, {"subset": subset, **overrides})
    version = version_of(data_root, config.subset, reference)
    return {"version": version, "subset": config.subset, "crop": config.patch_size}


@stage
def validate(
    identity: dict,
    data_root: str,
    runs_dir: str,
    checks: dict,
    reference: str,
    report: Output[HTML],
    findings: Output[Artifact],
    summary: Output[Markdown],
    metrics: Output[Metrics],
) -> dict:
    """Look at every pair, and refuse data that cannot be trained on."""
    from pathlib import Path

    from components.validate import require_usable
    from components.validate import validate as run
    from deblur.data.listing import name_of
    from deblur.progress import for_terminal
    from pipelines.kubeflow.handing import begin, hand, keep_file, keep_text, log_metrics

    begin()
    subset, crop = identity["subset"], int(identity["crop"])
    out = Path(runs_dir) / "validation" / name_of(data_root, subset)
    result = run(data_root, str(out), subset, crop, checks, reference or None, for_terminal())
    # Kept by no stage that fails, so the log is where refused data is explained.
    print(result.summary)
    require_usable(result)
    keep_file(report, out / "report.html")
    keep_file(findings, out / "report.json")
    keep_text(summary, result.summary)
    log_metrics(metrics, {f"{split}_pairs": n for split, n in result.pairs.items()})
    log_metrics(metrics, {f"{s}_blurred_psnr": psnr for s, psnr in result.blurred_psnr.items()})
    return hand(result)


@stage
def prepare(identity: dict, validation: dict, runs_dir: str, dataset: Output[Dataset]) -> dict:
    """Decode the data set once, onto the volume."""
    from dataclasses import replace
    from pathlib import Path

    from components.prepare import prepare as run
    from components.validate import DataReport
    from deblur.data.listing import name_of
    from deblur.data.manifest import MANIFEST
    from deblur.progress import for_terminal
    from pipelines.kubeflow.handing import begin, hand, keep_file, take

    begin()
    data_root, subset = take(DataReport, validation).data_root, identity["subset"]
    out = Path(runs_dir) / "prepared" / name_of(data_root, subset)
    data = run(data_root, str(out), subset, for_terminal())
    keep_file(dataset, out / MANIFEST)
    dataset.metadata.update(
        digest=data.digest, kind=data.kind, path=data.path, data_root=data_root,
        new=data.is_new,
    )  # fmt: skip
    # Which version was there before says nothing of this one, and would spoil the cache.
    return hand(replace(data, previous=data.digest))


@stage
def train(
    data: dict,
    recipe: str,
    overrides: dict,
    subset: str,
    runs_dir: str,
    run_name: str,
    job: str,
    dataset: Input[Dataset],
    report: Input[HTML],
    findings: Input[Artifact],
    curve: Output[HTML],
    metrics: Output[Metrics],
) -> dict:
    """Train, or go on training, in the folder of the run's name on the volume."""
    import shutil
    import tempfile
    from pathlib import Path

    from components.prepare import PreparedData
    from components.train import train as run
    from deblur.digests import file_sha256
    from deblur.progress import for_terminal
    from pipelines.caching import code_digest
    from pipelines.kubeflow.handing import begin, hand, keep_picture, log_metrics, take

    begin()
    out = Path(runs_dir) / (run_name or job)
    settings = {"subset": subset, **overrides}
    with tempfile.TemporaryDirectory(prefix="deblur-") as documents:
        shutil.copyfile(report.path, Path(documents) / "report.html")
        shutil.copyfile(findings.path, Path(documents) / "report.json")
        result = run(
            take(PreparedData, data), str(out), recipe, settings, documents, for_terminal()
        )
    log_metrics(metrics, {"psnr": result.psnr, "blurred_psnr": result.blurred_psnr})
    log_metrics(metrics, {"epochs": result.epochs})
    keep_picture(curve, f"PSNR {result.psnr:.2f} dB", out / "learning_curve.png")
    checkpoint = file_sha256(Path(result.checkpoint))
    return hand(result, sha256=checkpoint, code=code_digest())


@stage
def evaluate(training: dict, data: dict, report: Output[HTML], metrics: Output[Metrics]) -> dict:
    """Measure on held-out pictures, as the server would deliver them."""
    from pathlib import Path

    from components.evaluate import evaluate as run
    from components.prepare import PreparedData
    from components.train import TrainResult
    from deblur.progress import for_terminal
    from pipelines.kubeflow.handing import begin, hand, keep_file, log_metrics, take

    begin()
    given = take(TrainResult, training), take(PreparedData, data)
    result = run(*given, progress=for_terminal())
    keep_file(report, Path(result.report) / "report.html")
    log_metrics(metrics, result.metrics)
    return hand(result)


@stage
def export(training: dict, evaluation: dict, data: dict, model: Output[Model]) -> dict:
    """One ONNX file with its contract, checked against torch, and the weights beside it."""
    import shutil
    from pathlib import Path

    from components.evaluate import EvalResult
    from components.export import export as run
    from components.prepare import PreparedData
    from components.train import TrainResult
    from pipelines.kubeflow.handing import begin, hand, take

    begin()
    measured = take(EvalResult, evaluation)
    result = run(take(TrainResult, training), measured, take(PreparedData, data))
    place = Path(model.path)
    place.mkdir(parents=True, exist_ok=True)
    for file in filter(None, (result.path, result.safetensors)):
        shutil.copy(file, place)
    model.metadata.update(framework="onnx", sha256=result.sha256, **measured.metrics)
    return hand(result)


@stage
def register(
    training: dict, evaluation: dict, exported: dict, data: dict, model: Input[Model]
) -> dict:
    """A new version in the MLflow registry, with its model card."""
    from dataclasses import replace
    from pathlib import Path

    from components.evaluate import EvalResult
    from components.export import ExportResult
    from components.prepare import PreparedData
    from components.register import register as run
    from components.train import TrainResult
    from pipelines.kubeflow.handing import begin, hand, take

    begin()
    # The artifact, as the file on the volume may be another one when the export was cached.
    written = take(ExportResult, exported)
    file = replace(written, path=str(Path(model.path) / Path(written.path).name))
    given = take(TrainResult, training), take(EvalResult, evaluation)
    return hand(run(*given, file, take(PreparedData, data)))


@stage
def promote(registration: dict, data: dict, decision: Output[Markdown]) -> dict:
    """The candidate becomes champion if it is better on the held-out pictures."""
    from components.prepare import PreparedData
    from components.promote import promote as run
    from components.register import Registration
    from deblur.progress import for_terminal
    from pipelines.kubeflow.handing import begin, hand, keep_text, take

    begin()
    given = take(Registration, registration), take(PreparedData, data)
    result = run(*given, progress=for_terminal())
    keep_text(decision, result.summary or f"# Version {result.version}: {result.reason}\n")
    return hand(result)


@stage
def conclude(
    runs_dir: str,
    run_name: str,
    job: str,
    status: PipelineTaskFinalStatus,
    summary: Output[Markdown],
) -> dict:
    """However the run ended: say so, and leave no MLflow run that claims to be running."""
    from pathlib import Path

    from pipelines.kubeflow.conclusion import conclude as run
    from pipelines.kubeflow.handing import begin, hand, keep_text

    begin()
    folder = Path(runs_dir) / (run_name or job)
    result = run(folder, str(status.state), str(status.error_message or ""))
    said = result.markdown(folder.name)
    print(said)
    keep_text(summary, said)
    return hand(result)
