"""The model registry, on MLflow: versions of ``deblur-unet``, their aliases, tags and files.

``docs/registry.md`` lists aliases and tags. Files that belong to a version are artifacts of its run
below ``versions/<number>/``.
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deblur.atomic import whole_file
from deblur.contract import ModelContract
from deblur.digests import file_sha256
from deblur.errors import ModelFileError
from deblur.serving.setting import Setting, setting_file, write_setting
from deblur.tracking import MlflowRun, load_mlflow, reachable

MODEL_NAME = "deblur-unet"
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
TUNING = "tuning"
INT8_FILE = "model.int8.onnx"
#: Beside some data sets: where their pictures come from, and their licences.
SOURCES = "SOURCES.md"

_ADDRESS = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")
#: Figures of a version under the names that MLflow and the ONNX file carry.
_FIGURE = re.compile(r"(train|val|test)_\w+")


@dataclass(frozen=True)
class Version:
    """A registered model version.

    Attributes:
        name: of the registered model.
        version: its number, from 1.
        run_id: the MLflow run that it is from.
        aliases: as ``("candidate", "champion")``.
        tags: what is known about it, see ``docs/registry.md``.
        created: Unix time in seconds.
    """

    name: str
    version: int
    run_id: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0

    @property
    def address(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def folder(self) -> str:
        """Where its files lie among the artifacts of its run."""
        return f"versions/{self.version}"

    @property
    def figures(self) -> dict[str, float]:
        """The metrics as served, as ``test_psnr``; PSNR in dB."""
        return {k: float(v) for k, v in sorted(self.tags.items()) if _FIGURE.fullmatch(k)}

    @property
    def setting(self) -> Setting | None:
        """How it is served if it was tuned.

        Raises:
            ModelFileError: the tag is damaged.
        """
        text = self.tags.get("serving.setting")
        if text is None:
            return None
        try:
            return Setting.model_validate_json(text)
        except ValidationError as error:
            raise ModelFileError(
                f"the tag serving.setting of {self.address} cannot be used ({error}): tune it again"
            ) from None


@dataclass(frozen=True)
class RunRecord:
    """What a run recorded; times are Unix times in seconds, ``end`` of a run under way is ``None``.

    A version registered by hand may have no run: then everything is empty.
    """

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    start: float | None = None
    end: float | None = None


def register_model(run: MlflowRun, path: Path, tags: Mapping[str, str]) -> Version:
    """Log an ONNX file to an open run and register it, with the alias ``candidate``.

    Registering the same file of the same run again returns the version that is there.

    Args:
        run: the run that made the file.
        path: a file written by ``deblur export``; its contract becomes tags.
        tags: further tags of the version; they go before the contract's.

    Raises:
        ModelFileError: the file carries no contract.
    """
    mlflow = load_mlflow()
    import onnx

    digest = file_sha256(path)
    client = mlflow.MlflowClient()
    for known in client.search_model_versions(f"name = '{MODEL_NAME}'"):
        if known.run_id == run.run_id and known.tags.get("sha256") == digest:
            return find_version(str(known.version))
    proto = onnx.load(path)
    props = {prop.key: prop.value for prop in proto.metadata_props}
    contract = ModelContract.from_metadata(props, str(path))
    logged = mlflow.onnx.log_model(
        proto,
        name="model",
        run_id=run.run_id,
        registered_model_name=MODEL_NAME,
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
        # Named, because inferring them loads the model in a fresh process for 20 s.
        pip_requirements=[f"onnxruntime=={metadata.version('onnxruntime')}"],
    )
    number = int(logged.registered_model_version)
    facts = {
        "architecture": f"{contract.architecture}, base_ch {contract.base_ch}",
        "data.digest": contract.data_digest,
        "data.kind": contract.data_kind,
        "data.subset": contract.subset,
        "config.digest": contract.config_digest,
        "code.revision": contract.code_revision,
        "contract": json.dumps(dict(contract.to_metadata())),
        "model.bytes": str(path.stat().st_size),
        "model.parameters": str(_parameters(proto)),
        **{name: f"{value:.4f}" for name, value in contract.metrics.items()},
    }
    _set_tags(client, MODEL_NAME, number, {**facts, **tags, "sha256": digest})
    client.set_registered_model_alias(MODEL_NAME, CANDIDATE, str(number))
    return find_version(str(number))


def find_version(reference: str) -> Version:
    """A version by ``3``, ``@champion``, ``models:/deblur-unet@champion`` or
    ``models:/deblur-unet/3``.

    Raises:
        ModelFileError: there is no such version.
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    from mlflow.exceptions import MlflowException

    address = reference
    if reference.isdigit():
        address = f"models:/{MODEL_NAME}/{reference}"
    elif reference.startswith("@"):
        address = f"models:/{MODEL_NAME}{reference}"
    parts = _ADDRESS.fullmatch(address)
    if not parts:
        raise ModelFileError(
            f"'{reference}' names no registered model: expected a version as 3, an alias as "
            "@champion, or an address as models:/deblur-unet@champion"
        )
    name, alias, number = parts.groups()
    try:
        with reachable(mlflow):
            client = mlflow.MlflowClient()
            aliases = client.get_registered_model(name).aliases
            if alias:
                found = client.get_model_version_by_alias(name, alias)
            else:
                found = client.get_model_version(name, number)
    except MlflowException as error:
        raise ModelFileError(
            f"cannot fetch {address} from {mlflow.get_tracking_uri()}: {error}. Register a "
            "model with the train-deblur flow first, or name an .onnx file"
        ) from None
    return _version(found, aliases)


def alias_holder(alias: str, name: str = MODEL_NAME) -> Version | None:
    """The version that has an alias, or ``None``; also if nothing is registered."""
    return next((v for v in list_versions(name) if alias in v.aliases), None)


def list_versions(name: str = MODEL_NAME) -> list[Version]:
    """All versions, the newest first; none if the name is unknown.

    Raises:
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    with reachable(mlflow):
        client = mlflow.MlflowClient()
        # Versions found by a search do not know their aliases.
        models = client.search_registered_models(f"name = '{name}'")
        if not models:
            return []
        found: list[Any] = []
        page = client.search_model_versions(f"name = '{name}'")
        found += page
        while page.token:
            page = client.search_model_versions(f"name = '{name}'", page_token=page.token)
            found += page
    versions = [_version(each, models[0].aliases) for each in found]
    return sorted(versions, key=lambda version: -version.version)


def run_record(version: Version) -> RunRecord:
    """What the run of a version recorded."""
    mlflow = load_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        with reachable(mlflow):
            run = mlflow.get_run(version.run_id)
    except MlflowException:
        return RunRecord({}, {}, {})
    return RunRecord(
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        start=run.info.start_time / 1000 if run.info.start_time else None,
        end=run.info.end_time / 1000 if run.info.end_time else None,
    )


def set_tags(version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version.

    Raises:
        SetupError: the store cannot be reached.
    """
    mlflow = load_mlflow()
    with reachable(mlflow):
        _set_tags(mlflow.MlflowClient(), version.name, version.version, tags)


def set_alias(alias: str, number: int, name: str = MODEL_NAME) -> None:
    """Give a version an alias, which another one loses; MLflow does it in one step."""
    mlflow = load_mlflow()
    with reachable(mlflow):
        mlflow.MlflowClient().set_registered_model_alias(name, alias, str(number))


def model_tag(key: str, name: str = MODEL_NAME) -> str | None:
    """A tag of the registered model, not of a version."""
    mlflow = load_mlflow()
    with reachable(mlflow):
        found = mlflow.MlflowClient().search_registered_models(f"name = '{name}'")
    return found[0].tags.get(key) if found else None


def set_model_tag(key: str, value: str | None, name: str = MODEL_NAME) -> None:
    """Set a tag of the registered model, or remove it."""
    mlflow = load_mlflow()
    with reachable(mlflow):
        client = mlflow.MlflowClient()
        if value is not None:
            client.set_registered_model_tag(name, key, value)
        elif model_tag(key, name) is not None:
            client.delete_registered_model_tag(name, key)


def keep_files(version: Version, folder: Path, below: str = "") -> None:
    """Keep the files of a folder with a version, below ``versions/<number>/<below>``.

    Raises:
        SetupError: the store cannot be reached.
    """
    keep_run_files(version.run_id, folder, f"{version.folder}/{below}".rstrip("/"))


def keep_run_files(run_id: str, folder: Path, below: str) -> None:
    """Keep the files of a folder with a run, now."""
    mlflow = load_mlflow()
    with reachable(mlflow):
        mlflow.MlflowClient().log_artifacts(run_id, str(folder), below)


def read_file(version: Version, path: str) -> str | None:
    """The text of an artifact of a version's run, as ``data/manifest.json``; ``None`` without it.

    Raises:
        SetupError: the store cannot be reached.
    """
    mlflow = load_mlflow()
    with tempfile.TemporaryDirectory() as folder, reachable(mlflow):
        client = mlflow.MlflowClient()
        above = path.rpartition("/")[0] or None
        if path not in [found.path for found in client.list_artifacts(version.run_id, above)]:
            return None
        return Path(client.download_artifacts(version.run_id, path, folder)).read_text("utf-8")


def fetch_model(address: str, out: Path, tuned: bool = True) -> Path:
    """Download a registered model's ONNX file and, if it was tuned, the setting beside it.

    A setting in int8 comes with the quantised file that tuning made.

    Args:
        address: ``models:/deblur-unet@candidate`` or ``models:/deblur-unet/3``.
        out: the file to write.
        tuned: whether as it is served; if not, the file that was registered, alone.

    Raises:
        ModelFileError: there is no such model, or it holds no ONNX file.
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    mlflow = load_mlflow()
    from mlflow.exceptions import MlflowException

    version = find_version(address)
    setting = version.setting if tuned else None
    quantised = f"{version.folder}/{TUNING}/{INT8_FILE}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with reachable(mlflow):
                if setting is not None and setting.precision == "int8":
                    got = mlflow.artifacts.download_artifacts(
                        run_id=version.run_id, artifact_path=quantised, dst_path=folder
                    )
                else:
                    # By number: the alias may move meanwhile.
                    got = mlflow.artifacts.download_artifacts(
                        artifact_uri=version.address, dst_path=folder
                    )
        except (MlflowException, OSError) as error:
            raise ModelFileError(
                f"cannot fetch {address} from {mlflow.get_tracking_uri()}: {error}. Register a "
                "model with the train-deblur flow first, or name an .onnx file"
            ) from None
        found = Path(got)
        files = [found] if found.is_file() else sorted(found.rglob("*.onnx"))
        if len(files) != 1:
            raise ModelFileError(
                f"{address} holds {len(files)} ONNX files, expected one: register the model with "
                "the train-deblur flow"
            )
        with whole_file(out) as partial:
            shutil.copyfile(files[0], partial)
    if setting is not None:
        write_setting(out, setting)
    else:
        # One of an earlier download would be taken for this model's.
        setting_file(out).unlink(missing_ok=True)
    return out


def _version(found: Any, aliases: Mapping[str, str]) -> Version:
    number = str(found.version)
    return Version(
        name=found.name,
        version=int(number),
        run_id=found.run_id,
        aliases=tuple(sorted(alias for alias, held in aliases.items() if str(held) == number)),
        tags=dict(found.tags),
        created=found.creation_timestamp / 1000,
    )


def _set_tags(client: Any, name: str, number: int, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, str(number), key, value)


def _parameters(proto: Any) -> int:
    """Weights of the network: constants of shapes are integers or scalars, and a group
    normalisation that was taken apart leaves the ones and zeros of an instance normalisation.
    """
    neutral = {
        name
        for node in proto.graph.node
        if node.op_type == "InstanceNormalization"
        for name in node.input[1:]
    }
    return sum(
        math.prod(weight.dims)
        for weight in proto.graph.initializer
        if weight.data_type == 1 and weight.dims and weight.name not in neutral
    )
