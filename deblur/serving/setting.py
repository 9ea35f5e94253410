"""How a model is run: what tuning chooses, and what travels beside the model file."""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deblur.atomic import whole_file
from deblur.contract import ModelContract
from deblur.errors import ModelFileError
from deblur.settings import readable
from deblur.tiling import ALIGNMENT

Provider = Literal["cpu", "openvino"]
ServingPrecision = Literal["fp32", "bf16", "int8"]


class Setting(BaseModel):
    """Everything that decides how fast a model is served, and by how little the result differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Provider = Field(default="cpu", description="onnxruntime's execution provider")
    precision: ServingPrecision = Field(default="fp32", description="what the network computes in")
    tile: int = Field(ge=32, multiple_of=ALIGNMENT, description="side of a tile in pixels")
    overlap: int = Field(ge=0, multiple_of=ALIGNMENT, description="pixels shared by neighbours")
    threads: int | None = Field(
        default=None, ge=1, description="of a session; default: all usable CPUs"
    )
    streams: int = Field(default=1, ge=1, description="tiles computed side by side")

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if self.overlap > self.tile // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}")
        return self

    @classmethod
    def of(cls, contract: ModelContract) -> "Setting":
        """The setting in which the contract's figures were measured: onnxruntime's own CPU
        provider, the contract's tiles, and the precision of the file."""
        precision: ServingPrecision = "int8" if contract.precision == "int8" else "fp32"
        return cls(precision=precision, tile=contract.tile, overlap=contract.overlap)

    def sentence(self) -> str:
        """As ``openvino bf16, tiles of 256, overlap 32``."""
        words = f"{self.provider} {self.precision}, tiles of {self.tile}, overlap {self.overlap}"
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        return words + threads + (f", {self.streams} streams" if self.streams > 1 else "")


def setting_file(model: Path) -> Path:
    """Where the setting of a model file lies: ``model.onnx`` has ``model.serving.json``."""
    return model.with_suffix(".serving.json")


def int8_file(model: Path) -> Path:
    """Where the quantised form of a model file lies: ``model.onnx`` has ``model.int8.onnx``."""
    return model.with_suffix(".int8.onnx")


def read_setting(model: Path) -> Setting | None:
    """The setting beside a model file, or ``None`` where there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    file = setting_file(model)
    try:
        return Setting(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        problem = readable(error, Setting.model_fields, "serving setting")
    except (OSError, ValueError, TypeError) as error:
        problem = str(error)
    raise ModelFileError(f"{file} cannot be used ({problem}): delete it, or tune the model again")


def write_setting(model: Path, setting: Setting) -> Path:
    """Write the setting beside a model file, whole or not at all."""
    file = setting_file(model)
    with whole_file(file) as partial:
        partial.write_text(setting.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return file
