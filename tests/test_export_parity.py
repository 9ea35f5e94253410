"""What an export is compared with torch on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblur.data.pairs import open_pairs
from deblur.data.synthesis import scenes
from deblur.export_parity import parity_pictures, some_of

SIZES = ("1x1", "33x250", "97x131", "256x256")


def test_noise_and_two_photographs_are_taken_at_every_size() -> None:
    pictures = parity_pictures()
    names = {f"{source} {size}" for source in ("noise", "coffee", "astronaut") for size in SIZES}
    assert pictures.keys() == names
    coffee = pictures["coffee 97x131"]
    assert (coffee.shape, coffee.dtype) == ((97, 131, 3), np.uint8)
    assert coffee.std() > 10
    assert np.array_equal(pictures["coffee 256x256"][79:176, 62:193], coffee)


def test_without_the_packages_of_photographs_it_is_a_drawn_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tuple(replace(p, package="no_such_package") for p in scenes.PHOTOGRAPHS)
    monkeypatch.setattr(scenes, "PHOTOGRAPHS", elsewhere)
    pictures = parity_pictures()
    assert pictures.keys() == {f"{s} {size}" for s in ("noise", "lettering-4") for size in SIZES}


def test_given_pictures_are_cut_to_what_they_have(detail: np.ndarray) -> None:
    pictures = parity_pictures({"small": detail})
    assert {name for name in pictures if name.startswith("small")} == {
        "small 1x1", "small 33x56", "small 40x56"
    }  # fmt: skip
    assert np.array_equal(pictures["small 40x56"], detail)


def test_pictures_of_a_data_set_are_spread_and_named(tiny_root: Path) -> None:
    pairs = open_pairs(tiny_root, "train")
    some = some_of(pairs, 2)
    assert list(some) == ["discs-train/000001.png", "masonry-train/000001.png"]
    assert np.array_equal(some["masonry-train/000001.png"], pairs.read(2)[0])
    assert list(some_of(open_pairs(tiny_root, "test"), 2)) == ["lettering-test/000001.png"]
