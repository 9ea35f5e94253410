"""Deployment names without their flow."""

import pytest

from pipelines.bare_names import with_full_names

RUN = ["prefect", "deployment", "run"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([*RUN, "train-deblur"], [*RUN, "train-deblur/train-deblur"]),
        ([*RUN, "train-deblur/train-deblur"], [*RUN, "train-deblur/train-deblur"]),
        (
            [*RUN, "--param", "recipe=demo", "train-deblur", "--watch"],
            [*RUN, "--param", "recipe=demo", "train-deblur/train-deblur", "--watch"],
        ),
        ([*RUN, "validate-data"], [*RUN, "validate-data/validate-data"]),
        ([*RUN, "somebody-elses"], [*RUN, "somebody-elses"]),
        (
            ["prefect", "flow-run", "ls", "train-deblur"],
            ["prefect", "flow-run", "ls", "train-deblur"],
        ),
        (["prefect"], ["prefect"]),
    ],
)
def test_only_our_bare_names_after_deployment_run_are_completed(
    given: list[str], expected: list[str]
) -> None:
    assert with_full_names(given) == expected
