"""The HTTP interface."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient

from deblur.images import to_float, to_uint8
from deblur.serving.engine import Engine
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


def test_the_api_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/deblur"]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    assert {"200", "400", "406", "413", "415"} <= described["responses"].keys()
    assert client.get("/", follow_redirects=True).status_code == 200
