"""Bodies of the inference protocol: what is read is what was written, and nothing else is read."""

import gzip
import json
import math
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import Limits
from deblur.serving.inference.codec import Inference, compose_answer, parse_request
from deblur.serving.inference.compression import accepted_coding, compress, decompress
from deblur.serving.inference.tensors import InferenceRequestError

LIMITS = Limits(megabytes=1, megapixels=0.01)


def described(pixels: np.ndarray, **more: object) -> dict:
    return {"name": "blurred", "shape": list(pixels.shape), "datatype": "UINT8", **more}


def as_json(pixels: np.ndarray, nested: bool = False, **more: object) -> bytes:
    data = (pixels if nested else pixels.ravel()).tolist()
    return json.dumps({"inputs": [described(pixels, data=data)], **more}).encode()


def as_binary(pixels: np.ndarray, **more: object) -> tuple[bytes, str]:
    tensor = described(pixels, parameters={"binary_data_size": pixels.nbytes})
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + pixels.tobytes(), str(len(head))


pixels_of_any_shape = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.binary(min_size=3 * math.prod(shape), max_size=3 * math.prod(shape)).map(
        lambda values: np.frombuffer(values, np.uint8).reshape(*shape, 3)
    )
)


@given(pixels_of_any_shape, st.booleans(), st.text(max_size=5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_written_in_any_form_is_read_as_it_was(
    pixels: np.ndarray, nested: bool, id: str, binary: bool
) -> None:
    parameters = {"binary_data_output": binary, "mine": 1.5}
    body, length = as_binary(pixels, id=id, parameters=parameters)
    for inference in (
        parse_request(as_json(pixels, nested, id=id, parameters=parameters), None, LIMITS),
        parse_request(body, length, LIMITS),
    ):
        assert np.array_equal(inference.batch, pixels)
        assert (inference.id, inference.parameters) == (id, parameters)
        content, head = compose_answer(inference, list(pixels), "deblur", "7")
        answer = json.loads(content[:head])
        (output,) = answer.pop("outputs")
        assert answer == {
            "model_name": "deblur", "model_version": "7", "id": id, "parameters": parameters,
        }  # fmt: skip
        assert output["shape"] == list(pixels.shape)
        if binary:
            assert head is not None
            assert output["parameters"] == {"binary_data_size": pixels.nbytes}
            assert content[head:] == pixels.tobytes()
        else:
            assert head is None
            assert output["data"] == pixels.ravel().tolist()


def test_binary_values_are_not_copied() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    body, length = as_binary(pixels)
    batch = parse_request(body, length, LIMITS).batch
    assert np.shares_memory(batch, np.frombuffer(body, np.uint8))


@given(st.binary(max_size=300), st.none() | st.text(max_size=6) | st.integers(0, 300).map(str))
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise_anything_but_the_codec_s_own_error(
    body: bytes, length: str | None
) -> None:
    with pytest.raises(DeblurError):
        parse_request(body, length, LIMITS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("blurred") | json_values,
            "shape": st.lists(st.integers(-1, 3), max_size=5) | json_values,
            "datatype": st.just("UINT8") | json_values,
            "data": st.lists(st.integers(-1, 256), max_size=12) | json_values,
            "parameters": st.dictionaries(st.just("binary_data_size"), json_values) | json_values,
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "id": json_values,
            "parameters": st.dictionaries(st.just("timeout"), json_values) | json_values,
            "outputs": st.lists(st.fixed_dictionaries({"name": st.just("restored")})) | json_values,
        },
    ),
    st.binary(max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_json_that_is_nearly_a_request_is_read_or_refused(
    tensor: dict, more: dict, tail: bytes
) -> None:
    head = json.dumps({"inputs": [tensor], **more}).encode()
    try:
        inference = parse_request(head + tail, str(len(head)), LIMITS)
    except DeblurError:
        return
    assert inference.batch.shape == tuple(tensor["shape"])


ONE = np.zeros((1, 1, 2, 3), np.uint8)


def changed(**fields: object) -> bytes:
    return json.dumps({"inputs": [{**described(ONE, data=[0] * 6), **fields}]}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not as expected"),
        (b"hello", "not as expected"),
        (b"[]", "not as expected"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"inputs": [], "x": ' + b"[" * 500 + b"]" * 500 + b"}", "recursion limit"),
        (b"{}", "'inputs' (Field required)"),
        (b'{"inputs": []}', "0 inputs"),
        (as_json(ONE)[:-9], "not as expected"),
        (as_json(ONE) + b"more", "trailing characters"),
        (changed(name="other"), "no input 'other'"),
        (changed(datatype="FP32"), "datatype 'FP32'"),
        (changed(shape=[1, 2, 3]), "shape [1, 2, 3]"),
        (changed(shape=[1, 1, 2, 4]), "shape [1, 1, 2, 4]"),
        (changed(shape=[1, 0, 2, 3]), "each at least 1"),
        (changed(shape=[1, -1, 2, 3]), "each at least 1"),
        (changed(shape=[1.5, 1, 2, 3]), "inputs.0.shape.0"),
        (changed(shape=["1", 1, 2, 3]), "inputs.0.shape.0"),
        (changed(shape=[True, 1, 2, 3]), "inputs.0.shape.0"),
        (changed(shape=[1, 2**63, 2, 3]), "inputs.0.shape.1"),
        (changed(shape=[1, 10**4000, 2, 3]), "inputs.0.shape.1"),
        (changed(shape=[1, 1, 1, 3]), "6 bytes of data, its shape [1, 1, 1, 3] has 3"),
        (changed(data=[0] * 5), "5 bytes of data"),
        (changed(data=[0, 0, 0, 0, 0, 256]), "from 0 to 255"),
        (changed(data=[0, 0, 0, 0, 0, -1]), "from 0 to 255"),
        (changed(data=[0, 0, 0, 0, 0, 2**70]), "from 0 to 255"),
        (changed(data=[0, 0, 0, 0, 0, 1.0]), "whole numbers"),
        (changed(data=[0, 0, 0, 0, 0, True]), "whole numbers"),
        (changed(data=[0, 0, 0, 0, 0, float("nan")]), "whole numbers"),
        (changed(data=[0, 0, 0, 0, 0, "0"]), "whole numbers"),
        (changed(data=[0, [0], 0, 0, 0, 0]), "whole numbers"),
        (changed(data=[[[0, 0, 0], [0, 0, 0]]]), "not nested as their shape"),
        (changed(data=[[[[0, 0, 0], [0, 0]]]]), "not nested as their shape"),
        (changed(data=[[[[0, 0, 0], [0, 0, [0]]]]]), "whole numbers"),
        (changed(data=None), "neither 'data' nor"),
        (changed(parameters={"binary_data_size": 6}), "both 'data' and"),
        (changed(parameters={"x": float("inf")}), "inputs.0.parameters.x"),
        (as_json(ONE, parameters={"timeout": -1}), "'timeout' is -1"),
        (as_json(ONE, parameters={"timeout": 0.5}), "'timeout' is 0.5"),
        (as_json(ONE, parameters={"timeout": 2**64}), "'timeout' is 18446744073709551616"),
        (as_json(ONE, parameters={"binary_data_output": 1}), "'binary_data_output' is '1'"),
        (as_json(ONE, outputs=[{"name": "sharp"}]), "no output 'sharp'"),
        (as_json(ONE, outputs=[{"name": "restored"}] * 2), "2 outputs"),
        (
            as_json(ONE, outputs=[{"name": "restored", "parameters": {"classification": 3}}]),
            "'classification', which is not supported",
        ),
    ],
)
def test_a_malformed_request_says_what_is_wrong(body: bytes, message: str) -> None:
    with pytest.raises(InferenceRequestError) as caught:
        parse_request(body, None, LIMITS)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("side", [2**20, 2**62])
def test_a_huge_shape_is_too_large_before_anything_is_read(side: int) -> None:
    with pytest.raises(PictureTooLargeError, match=r"megapixels, the limit is 0\.01"):
        parse_request(changed(shape=[1, side, side, 3]), None, LIMITS)


def test_the_limit_is_on_the_whole_batch() -> None:
    pixels = np.zeros((4, 50, 50, 3), np.uint8)
    assert parse_request(*as_binary(pixels), LIMITS).batch.shape == pixels.shape
    with pytest.raises(PictureTooLargeError, match="5x50x50"):
        parse_request(*as_binary(np.zeros((5, 50, 50, 3), np.uint8)), LIMITS)


def test_json_is_limited_below_binary_data() -> None:
    with pytest.raises(PictureTooLargeError, match="send the tensor as binary data"):
        parse_request(b" " * (2**24 + 1), None, Limits())


@pytest.mark.parametrize(
    ("length", "body", "message"),
    [
        ("0", as_json(ONE), "is 0, but the shape"),
        ("-1", as_json(ONE), "is '-1'"),
        ("1e3", as_json(ONE), "is '1e3'"),
        ("²", as_json(ONE), "is '²'"),
        ("9" * 5000, as_json(ONE), "is '999"),
        ("9999", as_json(ONE), "is 9999, the body has"),
        ("3", as_json(ONE), "not as expected"),
        (as_binary(ONE)[1], as_binary(ONE)[0][:-1], "of 6, but 5 bytes follow"),
        (as_binary(ONE)[1], as_binary(ONE)[0] + b"x", "of 6, but 7 bytes follow"),
        (str(len(as_json(ONE))), as_json(ONE) + b"x", "1 bytes follow the JSON"),
    ],
)
def test_a_header_length_that_does_not_fit_is_refused(
    length: str, body: bytes, message: str
) -> None:
    with pytest.raises(InferenceRequestError) as caught:
        parse_request(body, length, LIMITS)
    assert message in str(caught.value)


@pytest.mark.parametrize("size", [5, 7, -6, 6.0, True, "6", 2**62])
def test_a_binary_size_that_does_not_fit_is_refused(size: object) -> None:
    head = json.dumps({"inputs": [described(ONE, parameters={"binary_data_size": size})]}).encode()
    with pytest.raises(InferenceRequestError, match="'binary_data_size' of"):
        parse_request(head + ONE.tobytes(), str(len(head)), LIMITS)


@pytest.mark.parametrize(
    ("everywhere", "here", "binary"),
    [(None, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_what_is_said_of_an_output_goes_before_what_is_said_of_all(
    everywhere: bool | None, here: bool | None, binary: bool
) -> None:
    request: dict[str, Any] = {
        "parameters": {} if everywhere is None else {"binary_data_output": everywhere},
        "outputs": [
            {"name": "restored", "parameters": {} if here is None else {"binary_data": here}}
        ],
    }
    assert parse_request(as_json(ONE, **request), None, LIMITS).binary is binary


def test_a_timeout_is_in_microseconds_and_zero_is_none() -> None:
    def deadline(timeout: int) -> float | None:
        return parse_request(as_json(ONE, parameters={"timeout": timeout}), None, LIMITS).deadline

    assert deadline(2_500_000) == 2.5
    assert deadline(0) is None


def test_every_value_is_written_in_json() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    inference = Inference(pixels, None, {}, False, None)
    content, _ = compose_answer(inference, list(pixels), "deblur", "1")
    assert json.loads(content)["outputs"][0]["data"] == pixels.ravel().tolist()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_body_is_read_and_never_beyond_the_limit(coding: str) -> None:
    body = bytes(range(256)) * 8
    assert decompress(compress(body, coding), coding, len(body)) == body
    with pytest.raises(PictureTooLargeError, match="once decompressed"):
        decompress(compress(body, coding), coding, len(body) - 1)
    bomb = compress(bytes(2**26), coding)
    assert len(bomb) < 2**19
    with pytest.raises(PictureTooLargeError):
        decompress(bomb, coding, 2**16)


def test_compression_is_what_python_itself_reads_and_writes() -> None:
    assert gzip.decompress(compress(b"body", "gzip")) == b"body"
    assert zlib.decompress(compress(b"body", "deflate")) == b"body"
    assert decompress(b"body", "identity", 4) == b"body"


@pytest.mark.parametrize(
    ("body", "coding", "message"),
    [
        (b"body", "gzip", "damaged"),
        (b"", "gzip", "truncated"),
        (compress(b"body" * 99, "gzip")[:-3], "gzip", "truncated"),
        (compress(b"body", "deflate") + b"x", "deflate", "more than one stream"),
        (b"body", "br", "Content-Encoding 'br'"),
        (b"body", "gzip, gzip", "Content-Encoding 'gzip, gzip'"),
    ],
)
def test_a_damaged_compression_is_refused(body: bytes, coding: str, message: str) -> None:
    with pytest.raises(InferenceRequestError, match=message):
        decompress(body, coding, 1000)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
@settings(deadline=None)
def test_random_bytes_never_raise_anything_but_that(body: bytes, coding: str) -> None:
    with pytest.raises(DeblurError):
        decompress(body, coding, 1000)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("*", None),
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.00", None),
        ("gzip; q=0.05", "gzip"),
    ],
)
def test_the_answer_is_compressed_as_the_client_accepts(header: str, coding: str | None) -> None:
    assert accepted_coding(header) == coding
