"""The training configuration: one frozen model, three recipes, no hidden defaults."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deblur.data.layout import Averaging
from deblur.data.synthesis.shake import ShakeConfig
from deblur.digests import json_sha256
from deblur.errors import ConfigError
from deblur.settings import build, nearest
from deblur.tiling import ALIGNMENT, DEFAULT_OVERLAP, DEFAULT_TILE

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class TrainConfig(BaseModel):
    """Everything that decides what is trained. The defaults are the recipe ``seed``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    architecture: Literal["unet", "nafnet"] = Field("unet", description="the network")
    base_ch: int = Field(32, ge=8, multiple_of=8, description="channels of the first level")
    residual: bool = Field(True, description="the network returns its input plus a correction")
    subset: Averaging = Field("blur", description="which blurred folder is trained on")
    patch_size: int = Field(256, ge=32, multiple_of=16, description="side of a crop in pixels")
    batch_size: int = Field(8, ge=1, description="crops in a step")
    num_epochs: int = Field(100, ge=1, description="epochs at most")
    crops_per_image: int = Field(1, ge=1, description="crops of each picture in an epoch")
    last_epochs: int = Field(0, ge=0, description="epochs at the end on larger crops")
    last_patch_size: int = Field(384, ge=32, multiple_of=16, description="side of those crops")
    last_batch_size: int = Field(
        0, ge=0, description="crops in a step then; 0: as many as have the pixels of a step before"
    )
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's rate after the warm-up")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's decoupled weight decay")
    schedule: Literal["constant", "cosine"] = Field("constant", description="course of the rate")
    final_learning_rate: float = Field(1e-7, ge=0, description="where the cosine ends")
    warmup_steps: int = Field(0, ge=0, description="steps of linear rise at the start")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights; 0 is off")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0 is no limit")
    loss_eps: float = Field(1e-3, gt=0, description="eps of the Charbonnier loss")
    fft_weight: float = Field(0.0, ge=0, description="weight of the loss between spectra; 0 is off")
    max_skipped: int = Field(
        10, ge=1, description="steps in a row without a finite gradient before giving up"
    )
    precision: Precision = Field("auto", description="auto: bf16 or fp16 where it is fast")
    patience: int = Field(5, ge=0, description="validations without gain before stopping; 0: never")
    validate_every: int = Field(1, ge=1, description="epochs from one validation to the next")
    checkpoint_every: int = Field(
        10, ge=1, description="epochs from one kept checkpoint to the next"
    )
    keep: int = Field(2, ge=1, description="newest checkpoints to keep besides those and the best")
    save_minutes: float = Field(10.0, gt=0, description="minutes between saves within an epoch")
    log_every: int = Field(50, ge=1, description="steps from one point of the curves to the next")
    tile: int = Field(DEFAULT_TILE, ge=32, multiple_of=ALIGNMENT, description="serving tile")
    overlap: int = Field(DEFAULT_OVERLAP, ge=0, multiple_of=ALIGNMENT, description="tile overlap")
    workers: int = Field(0, ge=0, description="threads that read crops ahead; they change nothing")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile; auto: on a GPU, where it measures faster"
    )
    seed: int = Field(0, ge=0, description="of weights, order, crops and turns")
    shake: ShakeConfig | None = Field(
        None,
        description="make the blur anew for each crop, from the sharp pictures alone; true, or "
        "settings as shake.longest=20",
    )

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, values: Any) -> Any:
        """The shake has the seed and the averaging of the training."""
        if not isinstance(values, dict):
            return values
        if values.get("shake") in (None, False, "false", "none"):
            return {**values, "shake": None}
        shake = {} if values["shake"] in (True, "true") else values["shake"]
        if isinstance(shake, ShakeConfig):
            shake = shake.model_dump()
        if not isinstance(shake, dict):
            raise ValueError(f"shake is {shake!r}, expected true or settings as shake.longest=20")
        own = {"seed": values.get("seed", 0), "averaging": values.get("subset", "blur")}
        return {**values, "shake": {**shake, **own}}

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if self.overlap > self.tile // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}")
        if self.last_epochs > self.num_epochs:
            raise ValueError(
                f"last_epochs {self.last_epochs} is more than num_epochs {self.num_epochs}"
            )
        return self

    @property
    def last_batch(self) -> int:
        """Crops in a step of the last phase."""
        fitting = self.batch_size * self.patch_size**2 // self.last_patch_size**2
        return self.last_batch_size or max(1, fitting)

    def decisive(self) -> dict[str, Any]:
        """What decides the result, as plain values."""
        return self.model_dump(mode="json", exclude=set(HOUSEKEEPING))

    def digest(self) -> str:
        """SHA-256 of what decides the result."""
        return json_sha256(self.decisive())


#: Settings that change how a training runs and not what it comes to.
HOUSEKEEPING = ("workers", "compile", "checkpoint_every", "keep", "save_minutes", "log_every")


#: What each recipe changes of the defaults.
RECIPES: dict[str, dict[str, Any]] = {
    # The user's document, to the letter but for the residual network.
    "seed": {},
    # The field's budget on GoPro: 2,103 pictures x 30 crops x 100 epochs = 6.3 million crops.
    "gopro": {
        "batch_size": 32, "num_epochs": 100, "crops_per_image": 30, "learning_rate": 1e-3,
        "schedule": "cosine", "warmup_steps": 1000, "ema_decay": 0.999, "clip_norm": 1.0,
        "patience": 0, "validate_every": 2, "workers": 4,
    },
    # Minutes on two CPU cores: a network of 0.5 million parameters, small crops, a high rate.
    # At this width fp32 is faster on a CPU than bf16, and it runs alike everywhere.
    "demo": {
        "base_ch": 8, "patch_size": 128, "batch_size": 4, "num_epochs": 14, "crops_per_image": 10,
        "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50, "clip_norm": 1.0,
        "patience": 0, "validate_every": 4, "precision": "fp32",
    },
}  # fmt: skip


def make_config(recipe: str = "seed", overrides: dict[str, Any] | None = None) -> TrainConfig:
    """A recipe with some fields changed.

    Args:
        recipe: a key of ``RECIPES``.
        overrides: field names and values, a dot before fields of fields; strings are read as the
            field's type.

    Raises:
        ConfigError: unknown recipe, unknown field (with the nearest one named), bad value.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe '{recipe}'{nearest(recipe, RECIPES)}")
    return build(TrainConfig, {**RECIPES[recipe], **(overrides or {})}, "training configuration")
