"""Runs and schedules on a Kubeflow Pipelines server."""

import contextlib
import json
import os
import ssl
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblur.errors import ConfigError, SetupError
from pipelines.kubeflow.pipeline import NAME, compile_pipeline
from pipelines.kubeflow.settings import Cluster, Parameters

_HEALTH = "/apis/v2beta1/healthz"
#: Least and greatest value of each field of a cron expression, seconds first.
_CRON = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_NAMES = (
    *(" ",) * 4,
    "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC",
    "SUN MON TUE WED THU FRI SAT",
)


@dataclass(frozen=True)
class Server:
    """A Kubeflow Pipelines server and who asks it.

    Attributes:
        host: its address, as ``http://localhost:8080`` of a forwarded port.
        namespace: of the runs, where the server has several users.
        token: for the ``Authorization`` header.
        cookies: of a session, where a proxy wants them.
        ca: file with the certificate of the server's authority.
    """

    host: str
    namespace: str = ""
    token: str = ""
    cookies: str = ""
    ca: Path | None = None


def submit(
    server: Server, cluster: Cluster, parameters: Parameters, name: str, experiment: str
) -> str:
    """Start one run; returns its id.

    Raises:
        SetupError: the server is out of reach, or refuses.
    """
    with _asked(server) as client, _compiled(cluster, parameters) as package:
        run = client.run_pipeline(
            _experiment(client, server, experiment), name, package, parameters.model_dump()
        )
    return str(run.run_id)


def schedule(
    server: Server,
    cluster: Cluster,
    parameters: Parameters,
    name: str,
    experiment: str,
    cron: str,
    enabled: bool = True,
) -> str:
    """Start runs again and again, one at a time; returns the id of the recurring run.

    One of the same name in the same experiment is replaced. Runs that were missed are not made up
    for.

    Args:
        server: to ask.
        cluster: what the pods are given.
        parameters: of each run.
        name: of the recurring run.
        experiment: that it belongs to.
        cron: minute, hour, day, month, weekday, with seconds in front if there are six; in UTC
            unless the server was set up otherwise.
        enabled: whether it starts at once.

    Raises:
        ConfigError: a bad cron expression, or a run's name, which all runs would share.
        SetupError: the server is out of reach, or refuses.
    """
    expression = cron_of(cron)
    if parameters.run_name:
        raise ConfigError(
            f"run_name = '{parameters.run_name}' would be that of every run of the schedule, of "
            "which each but the first would find it trained: leave it out"
        )
    with _asked(server) as client, _compiled(cluster, parameters) as package:
        belongs = _experiment(client, server, experiment)
        before = [known for known in _recurring(client, server, belongs) if known[1] == name]
        made = client.create_recurring_run(
            belongs, name, cron_expression=expression, max_concurrency=1, no_catchup=True,
            params=parameters.model_dump(), pipeline_package_path=package, enabled=enabled,
        )  # fmt: skip
        for known, _ in before:
            client.delete_recurring_run(known)
    return str(made.recurring_run_id)


def cron_of(given: str) -> str:
    """A cron expression with seconds in front, as Kubeflow wants it.

    It would take the five fields of Unix for the first five of its six, and start at other times.

    Raises:
        ConfigError: it has neither five nor six fields, or one is out of its range.
    """
    parts = given.split()
    if len(parts) == len(_CRON) - 1:
        parts = ["0", *parts]
    if len(parts) != len(_CRON):
        raise ConfigError(
            f"'{given}' is no cron expression: expected minute, hour, day, month and weekday, as "
            "'0 3 * * 0' for Sundays at three"
        )
    for part, limits, names in zip(parts, _CRON, _CRON_NAMES, strict=True):
        if not all(_is_cron(each, limits, names.split()) for each in part.split(",")):
            raise ConfigError(
                f"'{part}' in the cron expression '{given}' is not valid: expected *, or numbers "
                f"from {limits[0]} to {limits[1]}, as 1,15 or 1-5 or */2"
            )
    # Sunday may be 7 in Unix, not here.
    parts[-1] = ",".join("0" if day == "7" else day for day in parts[-1].split(","))
    return " ".join(parts)


def _is_cron(part: str, limits: tuple[int, int], names: list[str]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    ends = span.split("-")
    values = [names.index(end.upper()) if end.upper() in names else end for end in ends]
    if len(ends) > 2 or not all(str(value).isdecimal() for value in values):
        return False
    numbers = [int(value) for value in values]
    low, high = (0, len(names)) if any(isinstance(v, int) for v in values) else limits
    return all(low <= number <= high for number in numbers) and numbers == sorted(numbers)


@contextlib.contextmanager
def _compiled(cluster: Cluster, parameters: Parameters) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="deblur-") as folder:
        package = Path(folder) / f"{NAME}.yaml"
        compile_pipeline(package, cluster, parameters)
        yield str(package)


@contextlib.contextmanager
def _asked(server: Server) -> Iterator[Any]:
    """The client of a server that answers, with its errors as ours."""
    _require_answer(server)
    import kfp
    import urllib3
    from kfp_server_api import ApiException

    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        # It prints links to pages.
        with contextlib.redirect_stdout(nowhere):
            try:
                yield kfp.Client(
                    host=server.host,
                    namespace=server.namespace or "kubeflow",
                    existing_token=server.token or None,
                    cookies=server.cookies or None,
                    ssl_ca_cert=str(server.ca) if server.ca else None,
                )
            except ApiException as error:
                raise SetupError(
                    f"the Kubeflow Pipelines server {server.host} refuses ({error.status} "
                    f"{error.reason}): {_message(error.body)}"
                ) from error
            except (urllib3.exceptions.HTTPError, TimeoutError) as error:
                raise SetupError(_unreachable(server, error)) from error


def _require_answer(server: Server) -> None:
    """Ask for its health first: the client would try for half a minute before it gives up."""
    if not server.host.startswith(("http://", "https://")):
        raise ConfigError(
            f"'{server.host}' is no server's address: expected one as http://localhost:8080"
        )
    request = urllib.request.Request(server.host.rstrip("/") + _HEALTH)
    if server.token:
        request.add_header("Authorization", f"Bearer {server.token}")
    if server.cookies:
        request.add_header("Cookie", server.cookies)
    context = ssl.create_default_context(cafile=server.ca) if server.ca else None
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            json.loads(answer.read())
    except urllib.error.HTTPError as error:
        hint = "give a token or cookies" if error.code in (401, 403) else "is it the right address?"
        raise SetupError(
            f"{server.host} answers {error.code} to {_HEALTH}: expected a Kubeflow Pipelines "
            f"server of version 2; {hint}"
        ) from error
    except OSError as error:
        raise SetupError(_unreachable(server, error)) from error
    except ValueError as error:
        # A page to log in, mostly.
        raise SetupError(
            f"{server.host} does not answer as a Kubeflow Pipelines server of version 2 does: is "
            "it the right address, and are you let in? Give a token or cookies"
        ) from error


def _unreachable(server: Server, error: Exception) -> str:
    return (
        f"the Kubeflow Pipelines server {server.host} cannot be reached ({error}): is its port "
        "forwarded, as with  kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80 ?"
    )


def _message(body: Any) -> str:
    try:
        said = json.loads(body)
        return str(said.get("error_details") or said.get("message") or said.get("error"))
    except (TypeError, ValueError, AttributeError):
        return str(body)


def _experiment(client: Any, server: Server, name: str) -> str:
    """The id of an experiment, made if there is none."""
    return str(client.create_experiment(name, namespace=server.namespace or None).experiment_id)


def _recurring(client: Any, server: Server, experiment: str) -> Iterator[tuple[str, str]]:
    """Ids and names of the recurring runs of an experiment."""
    token = ""
    while True:
        page = client.list_recurring_runs(
            page_token=token, page_size=100, experiment_id=experiment,
            namespace=server.namespace or None,
        )  # fmt: skip
        for known in page.recurring_runs or []:
            yield str(known.recurring_run_id), str(known.display_name)
        token = page.next_page_token or ""
        if not token:
            return
