"""A tuning attached to the registered version that it is of."""

import json
from collections.abc import Mapping
from pathlib import Path

from deblur.card import publish_card
from deblur.digests import file_sha256
from deblur.errors import ModelFileError
from deblur.registry import INT8_FILE, TUNING, Version, find_version, keep_files, set_tags
from deblur.serving.setting import Setting


def attach_tuning(
    address: str, folder: Path, setting: Setting, metrics: Mapping[str, float]
) -> Version:
    """Make a tuned setting the one that a version is served with.

    The files come first, so that no setting names a file that is not there.

    Args:
        address: as ``models:/deblur-unet@candidate``.
        folder: what tuning wrote: ``tuning.json``, whose speed becomes tags, and, if the setting
            is in int8, ``model.int8.onnx``.
        setting: how to serve it.
        metrics: ``test_psnr`` and so on as served with this setting, in the place of the exported
            ones, which stay as ``exported.test_psnr``.

    Raises:
        ModelFileError: there is no such version, or no int8 file for a setting in int8.
        SetupError: MLflow is not installed, or its store cannot be reached.
    """
    version = find_version(address)
    quantised = folder / INT8_FILE
    if setting.precision == "int8" and not quantised.is_file():
        raise ModelFileError(
            f"{folder} has no {INT8_FILE}, which a setting in int8 needs: tune the model again"
        )
    keep_files(version, folder, TUNING)
    tags = {"serving.setting": setting.model_dump_json()}
    tags["serving.sha256"] = version.tags["sha256"]
    if setting.precision == "int8":
        tags["serving.sha256"] = file_sha256(quantised)
    tags |= _speed_tags(folder)
    for name, value in metrics.items():
        tags[name] = f"{value:.4f}"
        if name in version.tags and f"exported.{name}" not in version.tags:
            tags[f"exported.{name}"] = version.tags[name]
    set_tags(version, tags)
    tuned = find_version(version.address)
    publish_card(tuned)
    return tuned


def _speed_tags(folder: Path) -> dict[str, str]:
    """How fast the choice of a tuning is, and on what; nothing where that is unknown."""
    try:
        found = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
        return {
            "tuning.speed_up": f"{found['speed_up']:.3f}",
            "tuning.ms_per_megapixel": f"{found['choice']['ms_per_mp']:.1f}",
            "tuning.cpu": str(found["machine"]["cpu"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
