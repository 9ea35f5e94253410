"""Lets ``prefect deployment run train-deblur`` name a deployment without its flow.

Prefect's command line wants ``FLOW/DEPLOYMENT``. In this project the two are named alike, so a
bare name can only mean one thing. Prefect calls this hook (entry point group ``prefect.plugins``,
enabled in ``prefect.toml``) before its command line reads the arguments.
"""

import sys

from prefect.plugins import register_hook

DEPLOYMENTS = frozenset(
    {
        "train-deblur",
        "evaluate-deblur",
        "promote-deblur",
        "batch-deblur",
        "validate-data",
        "retrain-deblur",
    }
)


@register_hook
def setup_environment(*, ctx: object) -> None:
    """Prefect's start-up hook."""
    sys.argv[:] = with_full_names(sys.argv)


def with_full_names(argv: list[str]) -> list[str]:
    """``[..., "deployment", "run", "NAME"]`` with NAME as NAME/NAME where NAME is one of ours."""
    if argv[1:3] != ["deployment", "run"]:
        return list(argv)
    # Prefect takes the first bare word after "run"; a value of an option is never one of ours.
    return argv[:3] + [f"{arg}/{arg}" if arg in DEPLOYMENTS else arg for arg in argv[3:]]
