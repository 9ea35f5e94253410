"""The HTTP interface."""

import io
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageCms

from deblur.images import to_float, to_uint8
from deblur.serving.engine import Engine
from deblur.serving.logs import JsonFormatter
from tests.serving.conftest import decoded, encoded


def test_the_answer_equals_the_engine_in_process(
    client: TestClient, engine: Engine, photograph: np.ndarray
) -> None:
    answer = client.post("/v1/deblur", content=encoded(photograph))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-deblur-model"] == engine.sha256
    assert answer.headers["x-deblur-tiles"] == str(4 * 6)
    expected = to_uint8(engine.predict(to_float(photograph)))
    assert np.array_equal(decoded(answer.content), expected)


def test_a_form_with_the_field_image_is_the_same_as_a_raw_body(
    client: TestClient, photograph: np.ndarray
) -> None:
    body = encoded(photograph)
    raw = client.post("/v1/deblur", content=body)
    form = client.post("/v1/deblur", files={"image": ("photo.png", body, "image/png")})
    assert form.status_code == 200
    assert form.content == raw.content


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/webp;q=0.5, image/tiff", "image/tiff"),
        ("text/html, image/*;q=0.1", "image/jpeg"),
    ],
)
def test_the_answer_has_the_format_asked_for(
    client: TestClient, photograph: np.ndarray, accept: str, media: str
) -> None:
    body = encoded(photograph, "JPEG")
    answer = client.post("/v1/deblur", content=body, headers={"accept": accept})
    assert answer.headers["content-type"] == media
    assert decoded(answer.content).shape == photograph.shape


def test_a_format_that_cannot_be_written_is_406(client: TestClient, photograph: np.ndarray) -> None:
    answer = client.post("/v1/deblur", content=encoded(photograph), headers={"accept": "image/jxl"})
    assert answer.status_code == 406
    assert "ask for one of image/jpeg" in answer.json()["detail"]


def test_pictures_of_any_size_are_taken(client: TestClient, photograph: np.ndarray) -> None:
    for height, width in ((1, 1), (3, 200), (97, 131), (200, 301)):
        answer = client.post("/v1/deblur", content=encoded(photograph[:height, :width]))
        assert decoded(answer.content).shape == (height, width, 3)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the request has no body"),
        (b"hello, world", 415, "expected JPEG, PNG"),
        (b"GIF89a" + bytes(40), 415, "not a picture that can be read"),
        (encoded(np.zeros((90, 90, 3), np.uint8))[:60], 415, "damaged"),
        (encoded(np.zeros((400, 300, 3), np.uint8)), 413, "400 = 0.1 megapixels, the limit is 0.1"),
        (bytes(2**20 + 9000), 413, "larger than the limit of 1 MiB"),
    ],
)
def test_what_is_not_a_picture_or_too_large_gets_a_clear_4xx(
    client: TestClient, body: bytes, status: int, message: str
) -> None:
    answer = client.post("/v1/deblur", content=body)
    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_a_body_without_a_declared_length_is_limited_too(client: TestClient) -> None:
    answer = client.post("/v1/deblur", content=(bytes(2**16) for _ in range(20)))
    assert answer.status_code == 413


def test_a_form_without_the_field_says_which_it_has(client: TestClient) -> None:
    answer = client.post("/v1/deblur", files={"picture": ("a.png", b"x")})
    assert answer.status_code == 400
    assert "no file in the field 'image' (it has: picture)" in answer.json()["detail"]


def test_probes_say_alive_and_ready_with_the_model(client: TestClient, engine: Engine) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["model"]["sha256"] == engine.sha256
    assert ready["model"]["metrics"]["test_psnr"] == 20.0
    assert ready["model"]["measured_on"] == "simulated blur"


def test_pictures_sent_at_once_do_not_mix(client: TestClient, photograph: np.ndarray) -> None:
    pictures = [np.roll(photograph, 31 * shift, axis=1)[:120, :160] for shift in range(6)]
    alone = [client.post("/v1/deblur", content=encoded(p)).content for p in pictures]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(
            lambda p: client.post("/v1/deblur", content=encoded(p)).content, pictures
        ))  # fmt: skip
    assert together == alone
    assert len(set(alone)) == 6


def test_an_answer_says_how_it_came_about(client: TestClient, photograph: np.ndarray) -> None:
    said = client.post("/v1/deblur", content=encoded(photograph)).headers
    assert said["x-deblur-plan"] == "tile=64; overlap=16"
    assert 0 < float(said["x-deblur-seconds"]) < 60
    stages = [part.partition(";")[0] for part in said["server-timing"].split(", ")]
    assert stages == ["wait", "decode", "tiles", "encode"]


def test_what_is_asked_of_the_answer_is_done(client: TestClient, photograph: np.ndarray) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    body = encoded(photograph, "JPEG", icc_profile=profile, quality=90)
    sizes = {
        quality: len(client.post(f"/v1/deblur?quality={quality}", content=body).content)
        for quality in (30, 95)
    }
    assert sizes[30] < sizes[95] / 2
    kept = client.post("/v1/deblur", content=body).content
    assert Image.open(io.BytesIO(kept)).info["icc_profile"] == profile
    stripped = client.post("/v1/deblur?metadata=strip", content=body).content
    assert not Image.open(io.BytesIO(stripped)).getexif()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("quality=0", "query.quality"),
        ("metadata=some", "query.metadata"),
        ("deadline=-1", "query.deadline"),
        ("deadline=nan", "query.deadline"),
    ],
)
def test_a_parameter_out_of_range_is_422_in_a_sentence(
    client: TestClient, photograph: np.ndarray, query: str, named: str
) -> None:
    answer = client.post(f"/v1/deblur?{query}", content=encoded(photograph))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{named}: ")


def test_requests_have_an_id_which_may_be_the_clients(client: TestClient) -> None:
    given = client.get("/healthz", headers={"x-request-id": "order-17"})
    assert given.headers["x-request-id"] == "order-17"
    made_up = client.get("/healthz", headers={"x-request-id": "two words"})
    assert re.fullmatch("[0-9a-f]{32}", made_up.headers["x-request-id"])


def test_a_request_is_one_line_of_json_in_the_log(
    client: TestClient, photograph: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(JsonFormatter())
    with caplog.at_level(logging.INFO, "deblur"):
        client.post("/v1/deblur", content=encoded(photograph), headers={"x-request-id": "a"})
    line = json.loads(caplog.text.strip().splitlines()[-1])
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/deblur", 200)
    assert line["request_id"] == "a"
    assert line["seconds"] > 0


def test_metrics_count_requests_megapixels_and_tiles(
    client: TestClient, photograph: np.ndarray, engine: Engine
) -> None:
    client.post("/v1/deblur", content=encoded(photograph))
    client.post("/v1/deblur", content=b"nothing")
    client.get("/nowhere/at/all")
    said = client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in said.splitlines() if not line.startswith("#"))
    route = 'deblur_requests_total{method="POST",route="/v1/deblur"'
    assert figures[route + ',status="200"}'] == "1.0"
    assert figures[route + ',status="415"}'] == "1.0"
    assert figures['deblur_requests_total{method="other",route="other",status="404"}'] == "1.0"
    assert float(figures["deblur_megapixels_total"]) == pytest.approx(203 * 301 / 1e6)
    assert figures["deblur_tile_seconds_count"] == "24.0"
    assert float(figures["deblur_seconds_per_megapixel"]) > 0
    assert f'sha256="{engine.sha256}"' in said


def test_the_api_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/deblur"]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    assert {"200", "400", "406", "413", "415"} <= described["responses"].keys()
    assert client.get("/", follow_redirects=True).status_code == 200
