"""Data flows one way, and serving stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch", "torchvision", "mlflow", "prefect", "kfp", "onnx", "sklearn", "skimage", "scipy",
    "av", "cv2", "upath", "jinja2", "matplotlib", "onnxruntime_ep_openvino",
    "grpc", "pillow_heif", "ray",
}  # fmt: skip


def imported_by(folder: str) -> dict[str, set[str]]:
    """Top-level packages that each module of a folder imports, anywhere in it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
        found[path.relative_to(ROOT).as_posix()] = names
    assert found, f"no modules in {folder}"
    return found


def offenders(folder: str, forbidden: set[str], allowed: frozenset[str] = frozenset()) -> list[str]:
    return [
        f"{path} imports {', '.join(sorted(names & forbidden))}"
        for path, names in imported_by(folder).items()
        if path not in allowed and names & forbidden
    ]


def test_the_library_knows_neither_stages_nor_what_runs_them() -> None:
    assert offenders("deblur", {"prefect", "kfp", "pipelines", "components"}) == []


def test_only_the_modules_that_record_runs_touch_mlflow() -> None:
    allowed = {"deblur/tracking.py", "deblur/registry.py", "deblur/system_metrics.py"}
    assert offenders("deblur", {"mlflow"}, frozenset(allowed)) == []


def test_stages_know_no_orchestrator() -> None:
    assert offenders("components", {"prefect", "kfp", "pipelines", "mlflow"}) == []


def loaded_after(code: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after running ``code``."""
    program = f"{code}\nimport sys\nprint('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "module",
    [
        "deblur.serving",
        "deblur.serving.server",
        "deblur.serving.app",
        "deblur.serving.engine",
        "deblur.serving.openvino",
        "deblur.batch.on_ray",
        "deblur.batch.run",
        "deblur.predict",
        "deblur.predictors",
        "deblur.report",
    ],
)
def test_importing_the_server_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from deblur.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0 and 'serve' in result.output"
    )
    assert loaded_after(code) == set()


def test_the_check_itself_sees_a_heavy_import() -> None:
    assert "torch" in loaded_after("import deblur.models")
