"""What is known of a platform while it runs: one file, written whole, that others read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deblur.atomic import whole_file
from deblur.errors import SetupError
from deblur.local.processes import Identity

#: Below the folder in which the platform was started.
PLACE = Path(".deblur") / "platform"

#: ``waiting`` for another part or a model, ``pausing`` before it is started again, ``failed`` too
#: often to be started again, ``done`` of what ends by itself.
Condition = Literal[
    "waiting", "starting", "ready", "done", "pausing", "failed", "stopping", "stopped"
]


class Ports(BaseModel):
    """Where the servers listen, on 127.0.0.1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefect: int = Field(default=4200, ge=1, le=65535)
    mlflow: int = Field(default=5000, ge=1, le=65535)
    pictures: int = Field(default=8000, ge=1, le=65535)


class PartState(BaseModel):
    """A part at a moment. ``since`` is the Unix time of its condition, ``note`` a sentence."""

    model_config = ConfigDict(frozen=True)

    name: str
    condition: Condition = "waiting"
    url: str = ""
    process: Identity | None = None
    since: float = 0.0
    restarts: int = 0
    log: Path
    note: str = ""


class PlatformState(BaseModel):
    """The platform at a moment."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    supervisor: Identity
    since: float
    ports: Ports
    parts: tuple[PartState, ...] = ()

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.prefect}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.mlflow}"

    @property
    def addresses(self) -> dict[str, str]:
        """The variables by which ``prefect``, ``mlflow`` and ``deblur`` find the servers."""
        return {
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
        }

    @property
    def settled(self) -> bool:
        """Nothing is under way: each part is well, has failed, or waits for one that has, or for a
        model."""
        conditions = {part.condition for part in self.parts}
        if not self.parts or conditions & {"starting", "pausing", "stopping"}:
            return False
        queued = any(part.condition == "waiting" and not part.note for part in self.parts)
        return not queued or "failed" in conditions


class StateFolder:
    """The files of the platform that is started in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.place = self.folder / PLACE
        self.logs = self.place / "logs"
        self.lock = self.place / "lock"
        #: Found by the supervisor, which then stops everything.
        self.stop_request = self.place / "stop"
        self.deployed = self.place / "deployed.json"
        self._file = self.place / "state.json"

    @property
    def mark(self) -> str:
        """Of all processes of this platform."""
        return str(self.place)

    def read(self) -> PlatformState | None:
        """What the last supervisor wrote, ``None`` if it stopped in order or never ran.

        Raises:
            SetupError: the file is damaged.
        """
        try:
            return PlatformState.model_validate_json(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, ValueError) as error:
            raise SetupError(
                f"{self._file} cannot be read ({error}): delete it; deblur down then still finds "
                "what runs"
            ) from None

    def write(self, state: PlatformState) -> None:
        with whole_file(self._file) as partial:
            partial.write_text(state.model_dump_json(indent=1), encoding="utf-8")

    def clear(self) -> None:
        """Nothing runs any more. Logs stay."""
        self._file.unlink(missing_ok=True)
        self.stop_request.unlink(missing_ok=True)


def shell_lines(variables: Mapping[str, str], shell: str) -> list[str]:
    """Lines that set variables in ``bash`` (and zsh, sh) or ``powershell``.

    Raises:
        SetupError: another shell.
    """
    if shell == "bash":
        return [f"export {name}={value}" for name, value in variables.items()]
    if shell == "powershell":
        return [f'$env:{name} = "{value}"' for name, value in variables.items()]
    raise SetupError(f"no lines are known for the shell '{shell}': expected bash or powershell")
