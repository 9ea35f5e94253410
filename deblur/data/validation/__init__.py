"""The gate before training: every pair is looked at, and what is wrong is said with its remedy.

``validate_data`` finds the pairs, measures each once (``measure.py``), draws conclusions
(``pair_checks.py``, ``copies.py``, ``checks.py``) and writes a report for programs and for people.
"""

from deblur.data.validation.config import ValidationConfig, make_validation_config
from deblur.data.validation.findings import Finding
from deblur.data.validation.run import Validation, validate_data

__all__ = ["validate_data", "Validation", "Finding", "ValidationConfig", "make_validation_config"]
