"""Thousands of damaged and hostile pictures: each is read within the limits, or refused."""

from collections import Counter
from time import perf_counter

import pytest
from fastapi.testclient import TestClient

from deblur.errors import PictureError
from deblur.images import Limits, encode_picture, read_header, read_picture
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from tests.peak_memory import peak_bytes
from tests.serving.bad_pictures import bad_pictures

LIMITS = Limits(megabytes=1, megapixels=0.5)

# Pillow's, on damaged fields.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def read_and_write(count: int, seed: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for name, file in bad_pictures(count, seed):
        start = perf_counter()
        try:
            picture = read_picture(file, LIMITS, first_frame=True)
            header = read_header(file, LIMITS, first_frame=True)
            assert (header.height, header.width) == picture.rgb.shape[:2] or "behind" in name, name
            assert header.megapixels <= LIMITS.megapixels, name
            assert encode_picture(picture), name
            assert encode_picture(picture, "JPEG", keep_metadata=False), name
            outcomes["read"] += 1
        except PictureError as error:
            assert error.status in (413, 415), name
            assert any(word in str(error) for word in ("expected", "limit", "convert", "save")), (
                name
            )
            outcomes[str(error.status)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        assert perf_counter() - start < 5.0, name
    return outcomes


def test_the_crafted_and_some_changed_pictures_are_read_or_refused() -> None:
    outcomes = read_and_write(500, seed=2)
    assert outcomes["413"] >= 15
    assert outcomes["415"] >= 150
    assert outcomes["read"] >= 100


@pytest.mark.slow
def test_five_thousand_are_read_or_refused_in_bounded_memory() -> None:
    program = """
import warnings
from tests.peak_memory import peak_bytes
from tests.serving.bad_pictures import bad_pictures
from tests.serving.test_bad_pictures import read_and_write

warnings.simplefilter("ignore")
list(bad_pictures(300))  # packs the bombs
before = peak()
outcomes = read_and_write(5000, seed=1)
assert outcomes.total() == 5000
assert outcomes["read"] >= 1000
assert outcomes["415"] >= 2000
"""
    assert peak_bytes(program) < 300 * 2**20


@pytest.mark.slow
def test_the_server_answers_each_of_five_thousand(engine: Engine) -> None:
    answered: Counter[int] = Counter()
    with TestClient(create_app(engine, LIMITS)) as client:
        for name, file in bad_pictures(5000, seed=1):
            answer = client.post("/v1/deblur", content=file)
            answered[answer.status_code] += 1
            assert answer.status_code in (200, 400, 413, 415), f"{name}: {answer.text}"
            if answer.status_code == 200:
                assert answer.headers["content-type"].startswith("image/"), name
            else:
                assert isinstance(answer.json()["detail"], str), name
        assert client.get("/healthz").status_code == 200
    assert answered[200] >= 1000
    assert answered[415] >= 2000
