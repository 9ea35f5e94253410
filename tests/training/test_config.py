"""The training configuration."""

import pytest

from deblur.errors import ConfigError
from deblur.settings import parse_overrides
from deblur.training.config import HOUSEKEEPING, RECIPES, make_config


def test_the_seed_recipe_is_the_users_document() -> None:
    config = make_config("seed")
    assert (config.batch_size, config.num_epochs, config.patience) == (8, 100, 5)
    assert (config.learning_rate, config.weight_decay) == (1e-4, 1e-4)
    assert (config.patch_size, config.base_ch, config.checkpoint_every) == (256, 32, 10)
    assert (config.schedule, config.crops_per_image) == ("constant", 1)


def test_the_gopro_recipe_sees_6_3_million_crops() -> None:
    config = make_config("gopro")
    assert 2103 * config.crops_per_image * config.num_epochs == pytest.approx(6.3e6, rel=0.01)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid(recipe: str) -> None:
    assert make_config(recipe).tile % 16 == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batchsize": 4}, "unknown key 'batchsize'; did you mean 'batch_size'?"),
        ({"batch_size": 0}, "batch_size = 0: Input should be greater than or equal to 1"),
        ({"batch_size": "many"}, "batch_size = 'many': Input should be a valid integer"),
        ({"precision": "fp8"}, "precision = 'fp8': Input should be 'auto', 'fp32', 'bf16' or"),
        ({"overlap": 192}, "overlap 192 is more than half of tile 256"),
        ({"last_epochs": 101}, "last_epochs 101 is more than num_epochs 100"),
        ({"architecture": "unett"}, "architecture = 'unett': Input should be 'unet' or 'nafnet'"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(
    overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config("seed", overrides)
    assert message in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no recipe 'gorpo'; did you mean 'gopro'"):
        make_config("gorpo")


def test_settings_from_the_command_line_are_typed() -> None:
    config = make_config("seed", parse_overrides(["batch_size=4", "residual=false"]))
    assert config.batch_size == 4
    assert config.residual is False
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_overrides(["batch_size"])


def test_the_digest_tells_configurations_apart_but_not_housekeeping() -> None:
    base = make_config("seed").digest()
    housekeeping = {
        "workers": 4, "compile": "off", "checkpoint_every": 3, "keep": 7, "save_minutes": 1.5,
        "log_every": 9,
    }  # fmt: skip
    assert set(housekeeping) == set(HOUSEKEEPING)
    for key, value in housekeeping.items():
        assert base == make_config("seed", {key: value}).digest()
    assert base != make_config("seed", {"seed": 1}).digest()


def test_shake_follows_the_seed_and_the_subset_of_the_training() -> None:
    assert make_config("seed").shake is None
    config = make_config("seed", {"shake": "true", "seed": 7, "subset": "blur_gamma"})
    assert config.shake is not None
    assert (config.shake.seed, config.shake.averaging) == (7, "blur_gamma")
    part = make_config("seed", parse_overrides(["shake.longest=12", "seed=7"]))
    assert part.shake is not None
    assert (part.shake.longest, part.shake.seed) == (12.0, 7)
    # As a checkpoint keeps it.
    assert make_config("seed", part.model_dump(mode="json")) == part


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"shake": "maybe"}, "expected true or settings as shake.longest=20"),
        ({"shake.longst": 20}, "unknown key 'shake.longst'"),
        ({"shake": True, "shake.longest": 20}, "choose one"),
        ({"shake.longest": 1, "shake.shortest": 2}, "shortest 2 is more than longest 1"),
    ],
)
def test_settings_of_the_shake_are_checked(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        make_config("seed", overrides)
