"""``/v2`` over a real connection, by Triton's client."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.http as triton
import uvicorn
from tritonclient.utils import InferenceServerException

from deblur.images import Limits
from deblur.serving.engine import Engine
from deblur.serving.server import listen
from deblur.serving.service import Service
from tests.serving.test_inference import application, expected


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    """A server in a thread. Limits: 1 MiB and 0.1 megapixels."""
    listener = listen("127.0.0.1", 0)
    app = application(Service(engine, Limits(megabytes=1, megapixels=0.1)))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def infer(
    client: triton.InferenceServerClient,
    batch: np.ndarray,
    binary_in: bool = True,
    binary_out: bool = True,
    **more: object,
) -> triton.InferResult:
    tensor = triton.InferInput("blurred", list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch, binary_data=binary_in)
    output = triton.InferRequestedOutput("restored", binary_data=binary_out)
    return client.infer("deblur", [tensor], outputs=[output], **more)


def test_the_client_sees_server_and_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("deblur")
    assert client.is_model_ready("deblur", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("deblur", "1")["inputs"][0]["shape"] == [-1, -1, -1, 3]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 97, 131), (2, 40, 56)])
def test_what_the_client_gets_equals_the_engine_in_process(
    client: triton.InferenceServerClient,
    engine: Engine,
    photograph: np.ndarray,
    binary_in: bool,
    binary_out: bool,
    shape: tuple[int, int, int],
) -> None:
    count, height, width = shape
    batch = np.stack([photograph[n : n + height, :width] for n in range(count)])
    restored = infer(client, batch, binary_in, binary_out).as_numpy("restored")
    assert np.array_equal(restored, expected(engine, batch))


@pytest.mark.parametrize("there", [None, "gzip", "deflate"])
@pytest.mark.parametrize("back", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_bodies_are_the_same(
    client: triton.InferenceServerClient,
    engine: Engine,
    detail: np.ndarray,
    there: str | None,
    back: str | None,
    binary: bool,
) -> None:
    answer = infer(
        client, detail[None], binary, binary,
        request_compression_algorithm=there, response_compression_algorithm=back,
    )  # fmt: skip
    assert np.array_equal(answer.as_numpy("restored"), expected(engine, detail[None]))


def test_without_a_named_output_the_answer_is_binary(
    client: triton.InferenceServerClient, engine: Engine, detail: np.ndarray
) -> None:
    tensor = triton.InferInput("blurred", [1, *detail.shape], "UINT8")
    tensor.set_data_from_numpy(detail[None])
    answer = client.infer("deblur", [tensor], request_id="seven", parameters={"mine": 7})
    assert answer.get_response()["id"] == "seven"
    assert answer.get_response()["parameters"]["mine"] == 7
    assert answer.get_output("restored")["parameters"] == {"binary_data_size": detail.nbytes}
    assert np.array_equal(answer.as_numpy("restored"), expected(engine, detail[None]))


def test_requests_at_once_do_not_mix(address: str, engine: Engine, photograph: np.ndarray) -> None:
    pictures = [np.roll(photograph, 31 * n, axis=1)[None, :60, :80] for n in range(8)]

    def alone(batch: np.ndarray) -> np.ndarray:
        with triton.InferenceServerClient(address) as client:
            return infer(client, batch).as_numpy("restored")

    with ThreadPoolExecutor(4) as pool:
        for batch, restored in zip(pictures, pool.map(alone, pictures), strict=True):
            assert np.array_equal(restored, expected(engine, batch))


@pytest.mark.parametrize(
    ("shape", "name", "status", "message"),
    [
        ((1, 400, 300, 3), "blurred", "413", "0.12 megapixels, the limit is 0.1"),
        ((1, 700, 700, 3), "blurred", "413", "larger than the limit of 1 MiB"),
        ((1, 4, 4, 1), "blurred", "400", "each at least 1"),
        ((1, 4, 4, 3), "other", "400", "no input 'other'"),
    ],
)
def test_the_client_is_told_what_is_wrong(
    client: triton.InferenceServerClient,
    shape: tuple[int, ...],
    name: str,
    status: str,
    message: str,
) -> None:
    tensor = triton.InferInput(name, list(shape), "UINT8")
    tensor.set_data_from_numpy(np.zeros(shape, np.uint8))
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer("deblur", [tensor])
    assert caught.value.status() == status
