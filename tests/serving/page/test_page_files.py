"""The files of the page, as they come over HTTP."""

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deblur.serving.routes.page import page_routes

STATIC = files("deblur.serving") / "static"


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(page_routes())
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "file", "media"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/static/page.css", "page.css", "text/css; charset=utf-8"),
        ("/static/page.js", "page.js", "text/javascript; charset=utf-8"),
        ("/static/favicon.svg", "favicon.svg", "image/svg+xml"),
        ("/static/samples/coffee.jpg", "samples/coffee.jpg", "image/jpeg"),
    ],
)
def test_files_have_their_type_and_a_tag_to_ask_again_with(
    client: TestClient, path: str, file: str, media: str
) -> None:
    answer = client.get(path)
    assert answer.content == (STATIC / file).read_bytes()
    assert answer.headers["content-type"] == media
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"if-none-match": f'"other", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(path)
    assert (head.content, head.headers["etag"]) == (b"", answer.headers["etag"])


def test_scripts_and_styles_come_from_here_alone(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    for script in re.findall(r"<script(.*?)</script>", answer.text, re.DOTALL):
        assert re.fullmatch(r' type="module" src="static/\w+\.js">', script)
    assert not re.search(r"<style|\sstyle=|\son\w+=", answer.text)


@pytest.mark.parametrize(
    "name", ["../routes/page.py", "%2e%2e/app.py", "samples/README.md", "samples", "none.js", ""]
)
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_the_samples_are_small_and_each_has_its_licence() -> None:
    samples = [item for item in (STATIC / "samples").iterdir() if item.name.endswith(".jpg")]
    licences = (STATIC / "samples" / "README.md").read_text(encoding="utf-8")
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert len(samples) == 3
    for sample in samples:
        assert len(sample.read_bytes()) < 60_000
        assert f"| `{sample.name}` |" in licences
        assert f'src="static/samples/{sample.name}"' in page
