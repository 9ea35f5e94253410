"""The inference protocol over gRPC, by Triton's client."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

import deblur
from deblur.errors import SetupError
from deblur.images import Limits
from deblur.serving.engine import Engine
from deblur.serving.grpc import start_grpc
from deblur.serving.grpc.descriptor import FILE
from deblur.serving.grpc.generate import compiled
from deblur.serving.grpc.messages import SERVICE, message, methods
from deblur.serving.keys import Key, Keys, digest_of
from deblur.serving.service import Service
from tests.serving.test_inference import expected


class Running:
    """A server in an event loop of its own thread. Limits: 1 MiB and 0.1 megapixels."""

    def __init__(self, engine: Engine) -> None:
        self.service = Service(engine, Limits(megabytes=1, megapixels=0.1))
        self.service.start()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server, self.port = self.run(start_grpc(self.service, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.run(self.server.stop(None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.service.close()


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[Running]:
    running = Running(engine)
    yield running
    running.close()


@pytest.fixture
def client(running: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(running.address) as client:
        yield client


def infer(client: triton.InferenceServerClient, batch: np.ndarray, **more: object) -> np.ndarray:
    tensor = triton.InferInput("blurred", batch.shape, "UINT8")
    tensor.set_data_from_numpy(batch)
    return client.infer("deblur", [tensor], **more).as_numpy("restored")


def request_of(batch: np.ndarray, **more: object) -> service_pb2.ModelInferRequest:
    tensor = {"name": "blurred", "datatype": "UINT8", "shape": batch.shape}
    return service_pb2.ModelInferRequest(model_name="deblur", inputs=[tensor], **more)


@pytest.fixture
def call(running: Running) -> Iterator[grpc.UnaryUnaryMultiCallable]:
    """ModelInfer with messages as Triton describes them."""
    with grpc.insecure_channel(running.address) as channel:
        yield channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )


def test_the_generated_code_is_that_of_the_proto_file() -> None:
    assert FileDescriptorProto.FromString(compiled()) == FileDescriptorProto.FromString(FILE)


def test_every_field_has_the_number_and_type_that_triton_gives_it() -> None:
    compared = set()

    def compare(ours: Any, theirs: Any) -> None:
        assert ours.full_name == theirs.full_name
        if ours.full_name in compared:
            return
        compared.add(ours.full_name)
        for name, field in ours.fields_by_name.items():
            other = theirs.fields_by_name[name]
            assert (field.number, field.type, field.is_repeated) == (
                other.number, other.type, other.is_repeated,
            ), field.full_name  # fmt: skip
            if field.message_type is not None:
                compare(field.message_type, other.message_type)

    for name, request, response in methods():
        compare(request.DESCRIPTOR, getattr(service_pb2, f"{name}Request").DESCRIPTOR)
        compare(response.DESCRIPTOR, getattr(service_pb2, f"{name}Response").DESCRIPTOR)
    assert len(methods()) == 6
    assert len(compared) >= 18


def test_the_server_and_the_model_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("deblur")
    assert client.is_model_ready("deblur", "1")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("deblur", deblur.__version__)
    model = client.get_model_metadata("deblur")
    assert (model.name, model.versions, model.platform) == ("deblur", ["1"], "onnx_onnxv1")
    for (tensor,), name in ((model.inputs, "blurred"), (model.outputs, "restored")):
        assert (tensor.name, tensor.datatype, tensor.shape) == (name, "UINT8", [-1, -1, -1, 3])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 97, 131), (2, 40, 56)])
def test_what_the_client_gets_equals_the_engine_in_process(
    client: triton.InferenceServerClient,
    engine: Engine,
    photograph: np.ndarray,
    shape: tuple[int, int, int],
) -> None:
    count, height, width = shape
    batch = np.stack([photograph[n : n + height, :width] for n in range(count)])
    assert np.array_equal(infer(client, batch), expected(engine, batch))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_messages_are_the_same(
    client: triton.InferenceServerClient, engine: Engine, detail: np.ndarray, algorithm: str
) -> None:
    restored = infer(client, detail[None], compression_algorithm=algorithm)
    assert np.array_equal(restored, expected(engine, detail[None]))


def test_calls_at_once_do_not_mix(running: Running, engine: Engine, photograph: np.ndarray) -> None:
    pictures = [np.roll(photograph, 31 * n, axis=1)[None, :60, :80] for n in range(8)]

    def alone(batch: np.ndarray) -> np.ndarray:
        with triton.InferenceServerClient(running.address) as client:
            return infer(client, batch)

    with ThreadPoolExecutor(4) as pool:
        for batch, restored in zip(pictures, pool.map(alone, pictures), strict=True):
            assert np.array_equal(restored, expected(engine, batch))


def test_id_and_parameters_come_back_and_outputs_may_be_named(
    client: triton.InferenceServerClient, detail: np.ndarray
) -> None:
    tensor = triton.InferInput("blurred", [1, *detail.shape], "UINT8")
    tensor.set_data_from_numpy(detail[None])
    answer = client.infer(
        "deblur", [tensor], model_version="1", request_id="seven", parameters={"mine": 7},
        outputs=[triton.InferRequestedOutput("restored")],
    ).get_response()  # fmt: skip
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "deblur", "1")
    assert answer.parameters["mine"].int64_param == 7


def test_values_may_be_typed_instead_of_raw(
    call: grpc.UnaryUnaryMultiCallable, engine: Engine, detail: np.ndarray
) -> None:
    request = request_of(detail[None])
    request.inputs[0].contents.uint_contents.extend(detail.ravel().tolist())
    (raw,) = call(request).raw_output_contents
    assert raw == expected(engine, detail[None]).tobytes()


TWO = np.zeros((1, 1, 2, 3), np.uint8)


def typed(values: list[int], raw: bool = False) -> service_pb2.ModelInferRequest:
    request = request_of(TWO, raw_input_contents=[bytes(6)] if raw else [])
    request.inputs[0].contents.uint_contents.extend(values)
    return request


def with_timeout(**value: object) -> service_pb2.ModelInferRequest:
    request = request_of(TWO, raw_input_contents=[bytes(6)])
    request.parameters["timeout"].CopyFrom(service_pb2.InferParameter(**value))
    return request


def described(**fields: object) -> service_pb2.ModelInferRequest:
    tensor = {"name": "blurred", "datatype": "UINT8", "shape": [1, 1, 2, 3], **fields}
    return service_pb2.ModelInferRequest(
        model_name="deblur", inputs=[tensor], raw_input_contents=[bytes(6)]
    )


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (service_pb2.ModelInferRequest(), "NOT_FOUND", "no model ''"),
        (service_pb2.ModelInferRequest(model_name="other"), "NOT_FOUND", "no model 'other'"),
        (
            service_pb2.ModelInferRequest(model_name="deblur", model_version="2"),
            "NOT_FOUND",
            "no version '2'",
        ),
        (service_pb2.ModelInferRequest(model_name="deblur"), "INVALID_ARGUMENT", "0 inputs"),
        (described(name="other"), "INVALID_ARGUMENT", "no input 'other'"),
        (described(datatype="FP32"), "INVALID_ARGUMENT", "datatype 'FP32'"),
        (described(shape=[1, 1, -2, 3]), "INVALID_ARGUMENT", "each at least 1"),
        (described(shape=[6]), "INVALID_ARGUMENT", "shape [6]"),
        (described(shape=[1, 2**62, 2**62, 3]), "RESOURCE_EXHAUSTED", "megapixels, the limit"),
        (described(shape=[1, 1, 1, 3]), "INVALID_ARGUMENT", "6 bytes of data"),
        (request_of(TWO, raw_input_contents=[b"short"]), "INVALID_ARGUMENT", "5 bytes of data"),
        (request_of(TWO, raw_input_contents=[bytes(6)] * 2), "INVALID_ARGUMENT", "more than once"),
        (request_of(TWO), "INVALID_ARGUMENT", "0 bytes of data"),
        (typed([0] * 6, raw=True), "INVALID_ARGUMENT", "more than once"),
        (typed([0] * 7), "INVALID_ARGUMENT", "7 bytes of data"),
        (typed([0, 0, 0, 0, 0, 256]), "INVALID_ARGUMENT", "from 0 to 255"),
        (request_of(TWO, outputs=[{"name": "sharp"}]), "INVALID_ARGUMENT", "no output 'sharp'"),
        (request_of(TWO, outputs=[{"name": "restored"}] * 2), "INVALID_ARGUMENT", "2 outputs"),
        (with_timeout(int64_param=-1), "INVALID_ARGUMENT", "'timeout' is -1"),
        (with_timeout(string_param="1"), "INVALID_ARGUMENT", "'timeout' is '1'"),
        (with_timeout(), "INVALID_ARGUMENT", "'timeout' is ''"),
        (with_timeout(int64_param=1), "DEADLINE_EXCEEDED", "allow more time"),
        (
            request_of(TWO, raw_input_contents=[bytes(2**20)]),
            "RESOURCE_EXHAUSTED",
            "larger than max",
        ),
    ],
)
def test_what_cannot_be_met_gets_a_status_that_says_so(
    call: grpc.UnaryUnaryMultiCallable,
    running: Running,
    request_: service_pb2.ModelInferRequest,
    code: str,
    message: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(request_)
    assert caught.value.code() is grpc.StatusCode[code]
    assert message in caught.value.details()
    assert running.service.bodies.held == 0


def test_bytes_that_are_no_message_are_refused(running: Running) -> None:
    with grpc.insecure_channel(running.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff" * 50)
    assert caught.value.code() is not grpc.StatusCode.OK
    with triton.InferenceServerClient(running.address) as client:
        assert client.is_server_live()


def test_a_server_that_stops_says_so(
    running: Running, client: triton.InferenceServerClient, detail: np.ndarray
) -> None:
    running.service.draining = True
    try:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("deblur")
        with pytest.raises(InferenceServerException, match="is being stopped") as caught:
            infer(client, detail[None])
    finally:
        running.service.draining = False
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_more_than_is_held_is_refused_with_a_time_to_wait(
    call: grpc.UnaryUnaryMultiCallable, running: Running, detail: np.ndarray
) -> None:
    running.service.bodies.take_anyway(2**40)
    try:
        with pytest.raises(grpc.RpcError) as caught:
            call(request_of(detail[None], raw_input_contents=[detail.tobytes()]))
    finally:
        running.service.bodies.give_back(2**40)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) >= 1


def test_the_deadline_of_the_call_is_kept(
    running: Running, client: triton.InferenceServerClient, photograph: np.ndarray
) -> None:
    with pytest.raises(InferenceServerException, match=r"(?i)deadline") as caught:
        infer(client, photograph[None], client_timeout=0.01)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    for _ in range(100):
        if running.service.bodies.held == 0:
            break
        running.run(asyncio.sleep(0.1))
    assert running.service.bodies.held == 0
    assert running.service.seconds_for(0.0) == pytest.approx(0.0)  # nothing is taken on


def test_a_compressed_message_is_never_unpacked_beyond_the_limit(running: Running) -> None:
    with grpc.insecure_channel(running.address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", service_pb2.ModelInferRequest.SerializeToString
        )
        bomb = request_of(TWO, raw_input_contents=[bytes(2**27)])
        with pytest.raises(grpc.RpcError) as caught:
            call(bomb, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_only_callers_with_a_key_get_pictures_deblurred(
    running: Running, detail: np.ndarray
) -> None:
    each = detail.shape[0] * detail.shape[1] / 1e6
    keys = Keys([Key("any", digest_of("any")), Key("few", digest_of("few"), 1.5 * each)])
    server, port = running.run(start_grpc(running.service, "127.0.0.1", 0, keys=keys))
    try:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            for headers in ({}, {"authorization": "any"}, {"x-api-key": "other"}):
                with pytest.raises(InferenceServerException, match="wants an API key") as caught:
                    infer(client, detail[None], headers=headers)
                assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
                with pytest.raises(InferenceServerException, match="wants an API key"):
                    client.get_model_metadata("deblur", headers=headers)
            for headers in ({"authorization": "Bearer any"}, {"x-api-key": "few"}):
                assert infer(client, detail[None], headers=headers).shape == (1, *detail.shape)
            with pytest.raises(InferenceServerException, match="'few' may send") as caught:
                infer(client, detail[None], headers={"x-api-key": "few"})
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    finally:
        running.run(server.stop(None))


def test_a_port_that_is_taken_is_said_so(running: Running) -> None:
    with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{running.port}"):
        running.run(start_grpc(running.service, "127.0.0.1", running.port))


def test_without_the_package_the_extra_is_named() -> None:
    program = (
        "import asyncio, sys\n"
        "from deblur.serving.grpc import start_grpc\n"
        "assert 'grpc' not in sys.modules\n"
        "sys.modules['grpc'] = None\n"
        "try:\n"
        "    asyncio.run(start_grpc(None, '127.0.0.1', 0))\n"
        "except Exception as error:\n"
        "    import json\n"
        "    print(json.dumps([type(error).__name__, str(error)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    name, text = json.loads(done.stdout)
    assert name == "SetupError"
    assert "pip install 'deblur[grpc]'" in text


def test_the_messages_live_beside_those_of_other_packages() -> None:
    ours, theirs = message("ModelInferRequest"), service_pb2.ModelInferRequest
    assert ours is not theirs
    assert ours.DESCRIPTOR.full_name == theirs.DESCRIPTOR.full_name
    written = theirs(model_name="deblur", raw_input_contents=[b"x"]).SerializeToString()
    assert ours.FromString(written).raw_input_contents == [b"x"]
