"""``python -m pipelines.kubeflow``: compile, run and schedule the Kubeflow pipeline."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from deblur.cli.common import readable_errors
from deblur.errors import SetupError
from deblur.settings import parse_overrides, read_toml
from pipelines.kubeflow.settings import Cluster, Parameters, make_cluster, make_parameters

app = typer.Typer(
    name="python -m pipelines.kubeflow",
    help="The Kubeflow pipeline train-deblur.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Image = Annotated[
    str | None,
    typer.Option(envvar="DEBLUR_KUBEFLOW_IMAGE", help="The image of all stages."),
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="TOML file with settings of the cluster.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the cluster; repeatable."),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="KEY=VALUE",
        help="A parameter of the run, as overrides.num_epochs=20; repeatable.",
    ),
]
Host = Annotated[
    str,
    typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Address of Kubeflow Pipelines."),
]
Namespace = Annotated[str, typer.Option(help="Of the runs, where there are several users.")]
Experiment = Annotated[str, typer.Option(help="That the runs belong to.")]
Token = Annotated[
    str, typer.Option(envvar="DEBLUR_KUBEFLOW_TOKEN", help="For the Authorization header.")
]
Cookies = Annotated[
    str, typer.Option(envvar="DEBLUR_KUBEFLOW_COOKIES", help="Of a session, for a proxy.")
]
Authority = Annotated[
    Path | None, typer.Option("--ca", help="Certificate of the server's authority.")
]


@app.command("compile")
@readable_errors
def compile_command(
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; by default where it is committed.")
    ] = None,
    image: Image = None,
    cluster: ClusterFile = None,
    settings: Settings = None,
) -> None:
    """Write the pipeline as YAML, to be uploaded."""
    _require_kfp()
    from pipelines.kubeflow.pipeline import COMPILED, compile_pipeline

    where = out or COMPILED
    chosen = _cluster(image, cluster, settings)
    compile_pipeline(where, chosen, make_parameters({}, chosen))
    typer.echo(f"{where}: image {chosen.image}")


@app.command("run")
@readable_errors
def run_command(
    host: Host,
    params: Params = None,
    name: Annotated[str, typer.Option(help="Of the run.")] = "train-deblur",
    experiment: Experiment = "deblur",
    namespace: Namespace = "",
    token: Token = "",
    cookies: Cookies = "",
    ca: Authority = None,
    image: Image = None,
    cluster: ClusterFile = None,
    settings: Settings = None,
) -> None:
    """Start one run on a cluster."""
    chosen, parameters = _given(image, cluster, settings, params)
    _require_kfp()
    from pipelines.kubeflow.client import Server, submit

    server = Server(host, namespace, token, cookies, ca)
    run_id = submit(server, chosen, parameters, name, experiment)
    typer.echo(f"run {run_id}: {host.rstrip('/')}/#/runs/details/{run_id}")


@app.command("schedule")
@readable_errors
def schedule_command(
    host: Host,
    cron: Annotated[str, typer.Option(help="As '0 3 * * 0' for Sundays at three.")],
    params: Params = None,
    name: Annotated[str, typer.Option(help="Of the recurring run.")] = "train-deblur",
    experiment: Experiment = "deblur",
    namespace: Namespace = "",
    paused: Annotated[bool, typer.Option("--paused", help="Do not start it yet.")] = False,
    token: Token = "",
    cookies: Cookies = "",
    ca: Authority = None,
    image: Image = None,
    cluster: ClusterFile = None,
    settings: Settings = None,
) -> None:
    """Start runs again and again; one of the same name is replaced."""
    chosen, parameters = _given(image, cluster, settings, params)
    _require_kfp()
    from pipelines.kubeflow.client import Server, cron_of, schedule

    server = Server(host, namespace, token, cookies, ca)
    made = schedule(server, chosen, parameters, name, experiment, cron, not paused)
    typer.echo(f"recurring run {made}, at '{cron_of(cron)}'{', paused' if paused else ''}")


@app.command("local")
@readable_errors
def local_command(
    params: Params = None,
    out: Annotated[Path, typer.Option(help="Folder of the artifacts.")] = Path("runs/kubeflow"),
    cache: Annotated[
        bool, typer.Option("--cache", help="Take results of earlier runs from there.")
    ] = False,
    retries: Annotated[int, typer.Option(min=0, help="Of a training that fails.")] = 0,
) -> None:
    """Run the pipeline on this machine, without a cluster."""
    # KFP says what it took from the cache, and what it tries again, in its log alone.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    here = {"data_root": "data/sample", "runs_dir": "runs"}
    parameters = make_parameters({**here, **parse_overrides(params or [])})
    _require_kfp()
    from pipelines.kubeflow.local import run_locally

    run_locally(parameters, out, cache, retries)


def _given(
    image: str | None, file: Path | None, settings: list[str] | None, params: list[str] | None
) -> tuple[Cluster, Parameters]:
    """Both checked before a server is asked."""
    cluster = _cluster(image, file, settings)
    return cluster, make_parameters(parse_overrides(params or []), cluster)


def _cluster(image: str | None, file: Path | None, settings: list[str] | None) -> Cluster:
    written = read_toml(file, "the cluster's settings", 'claim = "deblur-data"')
    named: dict[str, Any] = {**written, **parse_overrides(settings or [])}
    return make_cluster({**named, "image": image} if image else named)


def _require_kfp() -> None:
    try:
        import kfp  # noqa: F401
        from kfp import kubernetes  # noqa: F401
    except ImportError:
        raise SetupError(
            "the Kubeflow pipeline needs KFP, which is not installed: pip install -e '.[kfp]'"
        ) from None


if __name__ == "__main__":
    app()
