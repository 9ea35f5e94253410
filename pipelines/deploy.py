"""Put the deployments of ``prefect.yaml`` and the automations on Prefect's server.

    python -m pipelines.deploy
"""

import subprocess
import sys

from deblur.errors import DeblurError
from pipelines.automations import apply


def main() -> int:
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    if code := subprocess.run(deploy).returncode:
        return code
    try:
        for name in apply():
            print(f"automation '{name}'")
    except DeblurError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
