"""Whether pictures that a model is judged by were among those that it was trained on.

Found are equal files. A picture that was saved anew has another digest; ``deblur data validate``
finds copies by their looks.
"""

from deblur.data.manifest import Manifest
from deblur.gates.check import Check

#: Splits that training reads; validation chooses which weights are kept.
_SEEN = ("train", "val")


def check_leaks(training: Manifest | None, judged: Manifest, split: str) -> Check:
    """How many pairs of a split share a picture with the training data.

    Args:
        training: of the data that the model was trained on, by any of its splits train and val;
            unknown, it keeps no bound.
        judged: of the data that it is judged by.
        split: the split of ``judged``.
    """
    about = f"pairs of the {split} split of which a picture is in the training data, byte for byte"
    if training is None:
        return Check("leaked_pairs", float("nan"), "at most", 0.0, "pairs", f"{about}: not known")
    found = leaked_pairs(training, judged, split)
    named = f"{about}: {', '.join(found[:3])}" if found else about
    return Check("leaked_pairs", float(len(found)), "at most", 0.0, "pairs", named)


def leaked_pairs(training: Manifest, judged: Manifest, split: str) -> tuple[str, ...]:
    """The pairs of ``split`` as ``scene/name`` of which either picture was trained on."""
    seen = {
        digest
        for part in _SEEN
        if part in training.splits
        for pair in training.splits[part].pairs
        for digest in (pair.blur_sha256, pair.sharp_sha256)
    }
    return tuple(
        f"{pair.scene}/{pair.name}"
        for pair in judged.splits[split].pairs
        if pair.blur_sha256 in seen or pair.sharp_sha256 in seen
    )
