"""Pictures that were trained on are found among those that a model is judged by."""

import math
from dataclasses import replace

from deblur.data.manifest import Manifest, PairEntry, SplitEntries
from deblur.gates.leaks import check_leaks, leaked_pairs


def entry(name: str, blur: str, sharp: str) -> PairEntry:
    return PairEntry("street", name, 4, 4, blur, sharp)


def manifest(**splits: tuple[PairEntry, ...]) -> Manifest:
    entries = {split: SplitEntries(pairs) for split, pairs in splits.items()}
    return Manifest("blur", "recorded", "GOPRO_Large", "somewhere", entries)


TRAINING = manifest(
    train=(entry("1", "b1", "s1"),), val=(entry("2", "b2", "s2"),), test=(entry("3", "b3", "s3"),)
)


def test_a_data_sets_own_test_split_is_no_leak() -> None:
    assert leaked_pairs(TRAINING, TRAINING, "test") == ()
    check = check_leaks(TRAINING, TRAINING, "test")
    assert (check.value, check.passed) == (0.0, True)


def test_either_picture_of_a_pair_in_train_or_val_is_a_leak_under_any_name() -> None:
    judged = manifest(
        test=(
            entry("fresh", "b8", "s8"),
            entry("sharp-of-train", "b9", "s1"),
            entry("blurred-of-val", "b2", "s9"),
            entry("sharp-as-blurred", "s2", "s7"),
            entry("of-their-test", "b3", "s3"),
        )
    )
    assert leaked_pairs(TRAINING, judged, "test") == (
        "street/sharp-of-train", "street/blurred-of-val", "street/sharp-as-blurred",
    )  # fmt: skip
    check = check_leaks(TRAINING, judged, "test")
    assert (check.value, check.passed) == (3.0, False)
    assert "street/sharp-of-train" in check.about


def test_being_judged_by_the_training_pictures_is_a_leak() -> None:
    assert leaked_pairs(TRAINING, TRAINING, "train") == ("street/1",)


def test_unknown_training_data_does_not_pass() -> None:
    check = check_leaks(None, TRAINING, "test")
    assert math.isnan(check.value)
    assert not check.passed


def test_a_set_without_validation_pictures_can_be_compared() -> None:
    without = replace(TRAINING, splits={"train": TRAINING.splits["train"]})
    assert leaked_pairs(without, TRAINING, "val") == ()
