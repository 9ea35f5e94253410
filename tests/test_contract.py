"""The contract survives its way through a file's metadata, and only whole ones of our version."""

import json
from dataclasses import replace

import pytest

from deblur.contract import VERSION, ModelContract
from deblur.errors import ModelFileError

CONTRACT = ModelContract(
    architecture="NAFNet", base_ch=32, tile=256, overlap=64, train_crop=256,
    metrics={"test_psnr": 30.5}, data_kind="recorded", subset="blur", data_digest="d",
    config_digest="c", code_revision="r", norm="layer",
)  # fmt: skip


def test_what_is_written_is_read() -> None:
    metadata = CONTRACT.to_metadata()
    assert metadata["deblur.tiling"] == '"tile-bound"'
    assert metadata["deblur.version"] == "3"
    assert ModelContract.from_metadata(metadata, "m.onnx") == CONTRACT
    free = replace(CONTRACT, tiling="free")
    assert ModelContract.from_metadata(free.to_metadata(), "m.onnx") == free


def test_a_file_of_version_1_is_to_be_exported_again() -> None:
    metadata = CONTRACT.to_metadata()
    metadata["deblur.version"] = "1"
    del metadata["deblur.tiling"]  # which version 1 did not have
    with pytest.raises(ModelFileError) as refusal:
        ModelContract.from_metadata(metadata, "old.onnx")
    assert str(refusal.value) == (
        "old.onnx has contract version 1, this program reads 3: export its checkpoint again with "
        "this version's  deblur export"
    )


def test_a_file_of_a_later_version_is_refused_even_if_its_keys_are_ours() -> None:
    metadata = CONTRACT.to_metadata()
    metadata["deblur.version"] = json.dumps(VERSION + 1)
    with pytest.raises(ModelFileError, match=r"contract version 4, this program reads 3"):
        ModelContract.from_metadata(metadata, "new.onnx")


@pytest.mark.parametrize("key", ["version", "tiling", "tile"])
def test_a_missing_key_is_named(key: str) -> None:
    metadata = CONTRACT.to_metadata()
    del metadata[f"deblur.{key}"]
    with pytest.raises(ModelFileError, match=f"contract: {key} missing from its metadata"):
        ModelContract.from_metadata(metadata, "m.onnx")


def test_a_value_that_is_not_json_is_unreadable() -> None:
    metadata = {**CONTRACT.to_metadata(), "deblur.tile": "two hundred"}
    with pytest.raises(ModelFileError, match="unreadable contract"):
        ModelContract.from_metadata(metadata, "m.onnx")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("form", "bfloat", "float or uint8"), ("form", 1, "float or uint8"),
        ("precision", "fp16", "fp32 or int8"), ("tile", "256", "int"), ("tile", True, "int"),
        ("architecture", 3, "str"), ("residual", 1, "bool"),
    ],
)  # fmt: skip
def test_a_value_that_is_unknown_is_named_with_what_is_known(
    key: str, value: object, expected: str
) -> None:
    metadata = {**CONTRACT.to_metadata(), f"deblur.{key}": json.dumps(value)}
    with pytest.raises(ModelFileError) as refusal:
        ModelContract.from_metadata(metadata, "m.onnx")
    assert str(refusal.value).startswith(
        f"m.onnx has the {key} {value!r}, this program knows {expected}: export"
    )


def test_every_form_and_precision_is_read() -> None:
    quantised = replace(CONTRACT, form="uint8", precision="int8", residual=False)
    assert ModelContract.from_metadata(quantised.to_metadata(), "m.onnx") == quantised
