"""``/v2``: the routes of the inference protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

import deblur
from deblur.images import Limits, Picture
from deblur.serving.engine import Engine
from deblur.serving.inference.compression import compress
from deblur.serving.routes.inference import inference_routes
from deblur.serving.service import Service
from tests.serving.test_inference_codec import as_binary, as_json

ABOVE = json.dumps(
    {"inputs": [{"name": "blurred", "datatype": "UINT8", "shape": [1, 400, 300, 3], "data": []}]}
).encode()
INFER = "/v2/models/deblur/infer"


def application(service: Service) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(lifespan=lifespan)
    app.include_router(inference_routes(service))
    return app


@pytest.fixture
def service(engine: Engine) -> Service:
    """Limits: 1 MiB and 0.1 megapixels."""
    return Service(engine, Limits(megabytes=1, megapixels=0.1))


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(application(service)) as client:
        yield client


def test_the_server_and_the_model_describe_themselves(client: TestClient) -> None:
    assert client.get("/v2").json() == {
        "name": "deblur", "version": deblur.__version__, "extensions": ["binary_tensor_data"],
    }  # fmt: skip
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    shape = {"datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    for path in ("/v2/models/deblur", "/v2/models/deblur/versions/1"):
        assert client.get(path).json() == {
            "name": "deblur",
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "blurred", **shape}],
            "outputs": [{"name": "restored", **shape}],
        }
        assert client.get(f"{path}/ready").json() == {"name": "deblur", "ready": True}


@pytest.mark.parametrize("path", ["models/other", "models/deblur/versions/2"])
def test_an_unknown_model_or_version_is_404(
    client: TestClient, path: str, detail: np.ndarray
) -> None:
    body = as_json(detail[None])
    for answer in (
        client.get(f"/v2/{path}"),
        client.get(f"/v2/{path}/ready"),
        client.post(f"/v2/{path}/infer", content=body),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("there is no ")


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_an_inference_equals_the_engine_in_process(
    client: TestClient, engine: Engine, detail: np.ndarray, version: str
) -> None:
    batch = np.stack([detail, detail[::-1]])
    body = as_json(batch, id="seven", parameters={"mine": 1})
    answer = client.post(f"/v2/models/deblur{version}/infer", content=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in answer.headers
    told = answer.json()
    assert (told["id"], told["parameters"], told["model_version"]) == ("seven", {"mine": 1}, "1")
    (output,) = told["outputs"]
    assert (output["name"], output["shape"]) == ("restored", [2, *detail.shape])
    restored = np.array(output["data"], np.uint8).reshape(batch.shape)
    assert np.array_equal(restored, expected(engine, batch))


def test_binary_values_follow_the_json(
    client: TestClient, engine: Engine, detail: np.ndarray
) -> None:
    batch = detail[None]
    body, length = as_binary(batch, parameters={"binary_data_output": True})
    answer = client.post(INFER, content=body, headers={"inference-header-content-length": length})
    assert answer.headers["content-type"] == "application/octet-stream"
    head = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:head])["outputs"]
    assert output["parameters"] == {"binary_data_size": batch.nbytes}
    assert "data" not in output
    assert answer.content[head:] == expected(engine, batch).tobytes()


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"", {}, 400, "EOF"),
        (b"hello", {}, 400, "not as expected"),
        (b"{}", {"inference-header-content-length": "3"}, 400, "the body has 2 bytes"),
        (b"{}", {"inference-header-content-length": "\xb2"}, 400, "send the number of bytes"),
        (b"{}", {"content-encoding": "br"}, 400, "Content-Encoding 'br'"),
        (compress(bytes(2**22), "gzip"), {"content-encoding": "gzip"}, 413, "once decompressed"),
        (as_binary(np.zeros((1, 400, 300, 3), np.uint8))[0][:99], {}, 400, "not as expected"),
        (ABOVE, {}, 413, "0.12 megapixels"),
        (as_json(np.zeros((1, 1, 1, 3), np.uint8), outputs=[{"name": "x"}]), {}, 400, "output 'x'"),
        (bytes(2**20 + 9000), {}, 413, "larger than the limit of 1 MiB"),
    ],
)
def test_what_cannot_be_met_gets_a_clear_4xx_in_the_protocol_s_form(
    client: TestClient, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    encoded = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = client.post(INFER, content=body, headers=encoded)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert message in answer.json()["error"]


def test_a_body_without_a_declared_length_is_limited_too(client: TestClient) -> None:
    answer = client.post(INFER, content=(bytes(2**16) for _ in range(20)))
    assert answer.status_code == 413
    assert "error" in answer.json()


def test_a_server_that_stops_says_so_everywhere(
    client: TestClient, service: Service, detail: np.ndarray
) -> None:
    service.draining = True
    for answer in (
        client.get("/v2/health/ready"),
        client.get("/v2/models/deblur/ready"),
        client.post(INFER, content=as_json(detail[None])),
    ):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "is being stopped" in answer.json()["error"]
    assert client.get("/v2/health/live").status_code == 200


def test_more_than_is_held_is_429(client: TestClient, service: Service, detail: np.ndarray) -> None:
    service.bodies.take_anyway(2**30)
    answer = client.post(INFER, content=as_json(detail[None]))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "send it again" in answer.json()["error"]


def test_a_timeout_that_cannot_be_met_is_504(client: TestClient, detail: np.ndarray) -> None:
    answer = client.post(INFER, content=as_json(detail[None], parameters={"timeout": 1}))
    assert answer.status_code == 504
    assert "the deadline" in answer.json()["error"] or "within" in answer.json()["error"]


def test_nothing_is_held_after_an_answer(
    client: TestClient, service: Service, detail: np.ndarray
) -> None:
    for body in (as_json(detail[None]), b"hello"):
        client.post(INFER, content=compress(body, "gzip"), headers={"content-encoding": "gzip"})
    assert service.bodies.held == 0
    assert service.idle


def test_the_description_has_schemas_examples_and_every_status(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert len([path for path in paths if path.startswith("/v2")]) == 9
    infer = paths[INFER.replace("deblur/", "{model}/")]["post"]
    assert {"200", "400", "404", "408", "413", "429", "503", "504"} <= infer["responses"].keys()
    content = infer["requestBody"]["content"]
    assert content.keys() == {"application/json", "application/octet-stream"}
    schema = content["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    (example,) = schema["examples"]
    answer = client.post(INFER, json=example)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["shape"] == [1, 1, 2, 3]
    assert infer["responses"]["200"]["content"].keys() == content.keys()


# No schema says that the data have the size of the shape, so what fits it may be refused.
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@pytest.mark.slow
def test_made_up_requests_are_answered_as_described(engine: Engine) -> None:
    app = application(Service(engine, Limits(megabytes=1, megapixels=0.001)))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        # Only where there is a body is there anything that the description forbids.
        for mode in GenerationMode if operation.method == "post" else [GenerationMode.POSITIVE]:

            @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy(generation_mode=mode))
            def call(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=CHECKS)

            call()
        tried.append(operation.label)
    assert len(tried) == 9


def expected(engine: Engine, batch: np.ndarray) -> np.ndarray:
    """What the engine makes of ``[N, H, W, 3]`` uint8 with nothing else going on."""
    return np.stack([engine.deblur(Picture(pixels)).rgb for pixels in batch])
