"""Values as JSON has them."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same plain values, with ``None`` for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
