"""What is checked: for each check how grave it is, where its limit lies, and what to do."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deblur.errors import ConfigError
from deblur.settings import nearest, readable

Severity = Literal["error", "warning", "off"]


class Rule(BaseModel):
    """How a check is applied.

    An ``error`` makes the data set unusable, a ``warning`` is only reported, ``off`` skips the
    check. ``threshold`` is ``None`` for checks that have no limit to set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    severity: Severity
    threshold: float | None = Field(None, ge=0)


def _check(severity: Severity, advice: str, threshold: float | None = None, unit: str = "") -> Any:
    rule = Rule(severity=severity, threshold=threshold)
    return Field(rule, description=advice, json_schema_extra={"unit": unit})


class ValidationConfig(BaseModel):
    """One rule a check. The order is that of reports; a field's description is its advice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    no_train: Rule = _check(
        "error", "Add a split train, or correct the layout: there is nothing to train on."
    )
    no_test: Rule = _check(
        "warning",
        "Hold some scenes out as a split test: without one no figure of quality can be trusted.",
    )
    unpaired: Rule = _check("error", "Add the missing counterpart, or remove the lone picture.")
    unreadable: Rule = _check("error", "Replace the file by an intact copy, or remove the pair.")
    size_differs: Rule = _check(
        "error", "Export both pictures at the same size and orientation, or remove the pair."
    )
    too_small: Rule = _check("error", "Remove the pair, or train on smaller crops (patch_size).")
    identical: Rule = _check(
        "error", "Put the blurred picture in its place, or remove the pair: it teaches nothing."
    )
    # Of 17 photographs and 6 drawings, reduced to 260 px, two agree by 0.29 at most, and one with
    # itself under 40 px of blur by 0.34 or more; at their own size 0.24 and 0.54.
    different_content: Rule = _check(
        "error", "Match the files again: the two pictures show different scenes.", 0.32, "of 1"
    )
    # Blur only takes gradients away: of the sample data at least a tenth. A tenth more is room for
    # noise in the blurred picture.
    swapped: Rule = _check(
        "error", "Exchange the two pictures: the one called sharp is the blurrier.", 1.1, "times"
    )
    # An accelerating camera shifts the mean of its path from its middle by at most a twelfth of
    # its length, 3.3 px at 40 px.
    misaligned: Rule = _check(
        "error", "Align the pair (the middle of the exposure is the reference), or remove it.",
        5.0, "px",
    )  # fmt: skip
    leakage: Rule = _check(
        "error",
        "Keep all pictures of a scene in one split: the same picture in two makes scores too good.",
        32.0, "of 256 bits",
    )  # fmt: skip
    scene_overlap: Rule = _check(
        "error", "Move the scene into one split, or rename it where the name alone is shared."
    )
    duplicate: Rule = _check(
        "warning", "Remove the copy: it counts twice in training.", 32.0, "of 256 bits"
    )
    converted: Rule = _check(
        "warning",
        "Store pictures as RGB with 8 bits, or see that what the conversion drops is not needed.",
    )
    # Below this mean the picture has a handful of grey levels, and noise is all there is to learn.
    dark: Rule = _check(
        "warning", "Expose the picture properly, or remove the pair.", 6.0, "of 255"
    )
    saturated: Rule = _check(
        "warning", "Remove the pair: where the sensor clips, blur is not linear.", 0.5, "of 1"
    )
    # Fewer levels than the noise of many a sensor.
    flat: Rule = _check(
        "warning", "Remove the pair: it shows no structure to restore.", 3.0, "of 255"
    )
    # Two pictures that have nothing in common come to 9 dB in the median.
    psnr_low: Rule = _check(
        "warning", "Look at the pair: brightness or content differ, or the blur is extreme.",
        10.0, "dB",
    )  # fmt: skip
    psnr_outlier: Rule = _check(
        "warning", "Look at the pair: it is blurred far more, or far less, than the others.",
        5.0, "deviations",
    )  # fmt: skip
    drift: Rule = _check(
        "warning", "Compare the two sets: a model trained on one may not suit the other.",
        0.2, "of 1",
    )  # fmt: skip

    @model_validator(mode="after")
    def _limits(self) -> "ValidationConfig":
        for name, field in type(self).model_fields.items():
            has, default = getattr(self, name).threshold, field.default.threshold
            if has is None and default is not None:
                raise ValueError(f"{name} needs a threshold")
            if has is not None and default is None:
                raise ValueError(f"{name} has no threshold to set")
        return self


#: Names of all checks, in the order of reports.
CHECKS = tuple(ValidationConfig.model_fields)


def advice(check: str) -> str:
    """One sentence on what to do."""
    return ValidationConfig.model_fields[check].description or ""


def unit(check: str) -> str:
    """What the threshold of a check is measured in; empty if it has none."""
    extra = ValidationConfig.model_fields[check].json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def make_validation_config(overrides: dict[str, Any] | None = None) -> ValidationConfig:
    """The default rules with some changed.

    Args:
        overrides: as ``{"misaligned.threshold": 3, "dark.severity": "off"}``; strings are read as
            the field's type.

    Raises:
        ConfigError: an unknown key (with the nearest one named), or a bad value.
    """
    default = ValidationConfig()
    rules = default.model_dump()
    known = [
        f"{check}.{part}"
        for check in CHECKS
        for part in ("severity", "threshold")
        if part == "severity" or rules[check]["threshold"] is not None
    ]
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ConfigError(
                f"the validation configuration is not valid: unknown key '{key}'"
                f"{nearest(key, known)}"
            )
        check, _, part = key.partition(".")
        rules[check][part] = value
    try:
        return ValidationConfig(**rules)
    except ValidationError as error:
        raise ConfigError(readable(error, known, "validation configuration")) from None
