"""Types of parameters that several flows have, as Prefect's form offers them.

What a parameter means stands in the docstring of its flow: Prefect shows it from there.
"""

from typing import Literal

#: The keys of ``deblur.training.config.RECIPES``.
Recipe = Literal["seed", "gopro", "demo"]
Split = Literal["train", "val", "test"]
