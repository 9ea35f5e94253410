"""The process that keeps the platform of this folder running: what ``deblur up --detach`` leaves.

    python -m deblur.local '{"prefect": 4200, "mlflow": 5000, "pictures": 8000}'

What happens goes to standard output, a line each.
"""

import sys
import time
from pathlib import Path

from deblur.errors import DeblurError
from deblur.local.starting import run_here
from deblur.local.state import Ports


def main() -> int:
    def say(line: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()

    try:
        run_here(Path.cwd(), Ports.model_validate_json(sys.argv[1]), say)
    except DeblurError as error:
        say(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
