"""What the commands share: errors on one line, the choice of blurred folder."""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from deblur.errors import DeblurError, StoppedError

Subset = Annotated[str, typer.Option(help="Blurred folder: blur or blur_gamma.")]


def readable_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print an expected error's message alone and exit with 2; Ctrl-C exits with 130, what was
    asked to stop by a signal with the code of that signal.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except DeblurError as error:
            typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        except StoppedError as stopped:
            typer.echo(str(stopped), err=True)
            raise typer.Exit(stopped.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return run


def parse_subset(name: str) -> Any:
    if name not in ("blur", "blur_gamma"):
        raise DeblurError(f"there is no averaging '{name}': expected blur or blur_gamma")
    return name
