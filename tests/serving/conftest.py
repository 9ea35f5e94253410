"""A server in this process, and encoded pictures."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deblur.images import Limits
from deblur.serving.app import create_app
from deblur.serving.engine import Engine


@pytest.fixture(scope="session")
def engine(tiny_model: Path) -> Engine:
    return Engine(tiny_model)


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """Limits: 1 MiB and 0.1 megapixels."""
    with TestClient(create_app(engine, Limits(megabytes=1, megapixels=0.1))) as client:
        yield client


def encoded(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))
