"""A check for schemathesis, which reads this file by ``SCHEMATHESIS_HOOKS``."""

import schemathesis
from schemathesis import CheckContext, Response


@schemathesis.check
def no_fault_of_the_server(
    context: CheckContext, response: Response, case: schemathesis.Case
) -> None:
    """No 5xx, but for the deadline that the client sets itself."""
    asked_for = "deadline" in (case.query or {}) or "timeout" in str(case.body)
    if response.status_code >= 500 and not (response.status_code == 504 and asked_for):
        raise AssertionError(f"{response.status_code}: {response.text[:500]}")
