"""Rules are changed by plain dictionaries, and mistakes are named."""

import re
from pathlib import Path
from typing import Any

import pytest

from deblur.data.validation import ValidationConfig, make_validation_config
from deblur.data.validation.config import CHECKS, advice
from deblur.errors import ConfigError
from deblur.settings import parse_overrides


def test_overrides_change_only_what_they_name() -> None:
    config = make_validation_config({"misaligned.threshold": 3, "dark.severity": "off"})
    assert config.misaligned.threshold == 3.0
    assert config.misaligned.severity == "error"
    assert config.dark.severity == "off"
    assert config.dark.threshold == ValidationConfig().dark.threshold
    assert make_validation_config() == ValidationConfig()


def test_settings_of_the_command_line_are_read_as_numbers() -> None:
    config = make_validation_config(parse_overrides(["psnr_low.threshold=12.5"]))
    assert config.psnr_low.threshold == 12.5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"misalined.threshold": 3}, "unknown key 'misalined.threshold'; did you mean 'misaligned"),
        ({"dark.treshold": 3}, "unknown key 'dark.treshold'; did you mean 'dark.threshold'?"),
        ({"unpaired.threshold": 3}, "unknown key 'unpaired.threshold'"),
        ({"dark": "off"}, "unknown key 'dark'"),
        ({"dark.severity": "fatal"}, "dark.severity = 'fatal': Input should be 'error', 'warning'"),
        ({"dark.threshold": "much"}, "dark.threshold = 'much': Input should be a valid number"),
        ({"dark.threshold": -1}, "dark.threshold = -1: Input should be greater than or equal to 0"),
        ({"dark.threshold": float("nan")}, "dark.threshold = nan: Input should be a finite number"),
        ({"dark.threshold": None}, "dark needs a threshold"),
    ],
)
def test_mistakes_are_named(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_validation_config(overrides)
    assert str(raised.value).startswith("the validation configuration is not valid: ")
    assert said in str(raised.value)


def test_every_check_says_in_one_sentence_what_to_do() -> None:
    assert len(CHECKS) == 20
    for check in CHECKS:
        assert advice(check).endswith(".") and ". " not in advice(check)


def test_the_documentation_lists_every_check_with_its_severity() -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (error|warning) \|", text, re.MULTILINE)
    config = ValidationConfig()
    assert rows == [(check, getattr(config, check).severity) for check in CHECKS]
