from deblur.gates.check import Check


def test_a_check_passes_up_to_its_bound_and_not_beyond() -> None:
    assert Check("ripple", 1.0, "at most", 1.0, "levels", "").passed
    assert not Check("ripple", 1.01, "at most", 1.0, "levels", "").passed
    assert Check("kept", 40.0, "at least", 40.0, "dB", "").passed
    assert not Check("kept", 39.9, "at least", 40.0, "dB", "").passed


def test_what_could_not_be_measured_passes_neither_way() -> None:
    assert not Check("ripple", float("nan"), "at most", 1.0, "", "").passed
    assert not Check("ripple", float("nan"), "at least", 1.0, "", "").passed


def test_a_check_says_what_was_found_and_what_was_allowed() -> None:
    check = Check("flat_field", 1.52, "at most", 1.0, "levels", "")
    assert check.sentence() == "flat_field 1.52 levels, allowed at most 1 levels: failed"
