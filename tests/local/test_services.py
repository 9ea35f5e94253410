"""Child servers start, are waited for, and never outlive the block."""

import socket
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from deblur.errors import SetupError
from deblur.local.processes import HOST, free_port
from deblur.local.services import Services


def serve_folder(services: Services, port: int) -> str:
    return services.start("files", ["http.server", "--bind", HOST, str(port)], port, "/").url


def test_a_service_answers_inside_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    port = free_port(0)
    with Services(tmp_path / "logs", {}) as services:
        url = serve_folder(services, port)
        assert httpx.get(url).status_code == 200
        pid = services.running[0].process.pid
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert '"GET / HTTP/1.1" 200' in (tmp_path / "logs" / "files.log").read_text()


def test_an_error_in_the_block_stops_the_services_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Services(tmp_path, {}) as services:
        serve_folder(services, free_port(0))
        raise KeyboardInterrupt
    assert services.running[0].process.poll() is not None


def test_a_service_takes_its_own_children_along(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys, http.server\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]))\n"
    )
    port = free_port(0)
    with Services(tmp_path, {"PYTHONPATH": str(tmp_path)}) as services:
        services.start("parent", ["parent", str(port)], port, "/")
        children = psutil.Process(services.running[0].process.pid).children(recursive=True)
        assert len(children) == 1
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_service_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        pytest.raises(SetupError, match=r"broken ended with 1; .*broken\.log:\n.*No module named"),
        Services(tmp_path, {}) as services,
    ):
        services.start("broken", ["no_such_module"], free_port(0), "/")
    assert time.monotonic() - started < 30


def test_a_port_that_is_taken_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        assert free_port(taken.getsockname()[1]) != taken.getsockname()[1]


@pytest.mark.skipif(sys.platform == "win32", reason="ports are reserved differently there")
def test_a_preferred_port_that_is_free_is_kept() -> None:
    port = free_port(0)
    assert free_port(port) == port
