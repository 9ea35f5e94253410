"""Put the deployments and the automations on Prefect's server.

python -m pipelines.deploy                            those of prefect.yaml
python -m pipelines.deploy prefect.kubernetes.yaml    those of a cluster
"""

import subprocess
import sys

from deblur.errors import DeblurError
from pipelines.automations import apply


def main() -> int:
    file = sys.argv[1] if len(sys.argv) > 1 else "prefect.yaml"
    deploy = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file]
    if code := subprocess.run([sys.executable, "-m", *deploy]).returncode:
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
