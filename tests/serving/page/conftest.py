"""The real application on a port, and a real browser without a screen before it."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.jobs.job import JobSettings
from deblur.serving.server import listen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "google-chrome", "chrome", "msedge")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


class HeldEngine(Engine):
    """An engine that computes tiles only while ``gate`` is set."""

    def __init__(self, model: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(model)

    def run_tile(self, tile: np.ndarray) -> np.ndarray:
        assert self.gate.wait(60)
        return super().run_tile(tile)


@dataclass
class Site:
    """A running server.

    Attributes:
        seen: methods and paths of all requests.
        answers: what is answered instead of the application, by method and beginning of the path.
    """

    url: str
    engine: HeldEngine
    seen: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[tuple[str, str], Response] = field(default_factory=dict)
    keys: list[str | None] = field(default_factory=list)

    def reset(self) -> None:
        self.engine.gate.set()
        self.seen.clear()
        self.answers.clear()
        self.keys.clear()

    def saw(self, method: str, path: str) -> bool:
        """Whether such a request came, within three seconds."""
        for _ in range(60):
            if any(m == method and p.startswith(path) for m, p in self.seen):
                return True
            time.sleep(0.05)
        return False


@pytest.fixture(scope="package")
def running_site(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Limits: 1 MiB and 0.5 megapixels."""
    engine = HeldEngine(tiny_model)
    jobs = JobSettings(folder=tmp_path_factory.mktemp("jobs"))
    app = create_app(engine, Limits(megabytes=1, megapixels=0.5), jobs=jobs)
    listener = listen("127.0.0.1", 0)
    site = Site(f"http://127.0.0.1:{listener.getsockname()[1]}/", engine)
    _watch(app, site)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield site
    engine.gate.set()
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    running_site.reset()
    yield running_site
    running_site.reset()


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """Closed with this package: while it is open, asyncio cannot be used in the main thread."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = ""
    if find_spec("playwright") is None:
        missing = "playwright is not installed"
    elif program is None:
        missing = f"no browser: none of {', '.join(BROWSERS)} is on the PATH"
    if missing:
        if os.environ.get("DEBLUR_NEEDS_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: "Browser", site: Site) -> Iterator["Page"]:
    """The page, opened. Fails the test on an error in the console or a request elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    opened.on(
        "console",
        # Chromium reports each answer of 400 and above; those are what some tests ask for.
        lambda message: (
            troubles.append(message.text)
            if message.type in ("error", "warning")
            and "Failed to load resource" not in message.text
            else None
        ),
    )
    opened.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((site.url, "blob:", "data:"))
            else troubles.append(f"asked for {request.url}")
        ),
    )
    opened.goto(site.url)
    yield opened
    context.close()
    assert troubles == []


def _watch(app: FastAPI, site: Site) -> None:
    async def watch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        method, path = request.method, request.url.path
        site.seen.append((method, path))
        site.keys.append(request.headers.get("authorization"))
        for (other, beginning), answer in site.answers.items():
            if method == other and path.startswith(beginning):
                await request.body()
                return answer
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=watch)
