"""What is put on Prefect's page: small pictures, and addresses without passwords."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import PICTURE_BYTES, data_uri, page_of_store, without_password


@pytest.mark.parametrize(
    ("store", "page"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://me:secret@mlflow.example/sub/", "https://mlflow.example/sub"),
        ("sqlite:///mlflow.db", None),
        ("postgresql://me:secret@db:5432/mlflow", None),
    ],
)
def test_a_store_with_a_page_is_linked_without_its_password(store: str, page: str | None) -> None:
    assert page_of_store(store) == page


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("postgresql://me:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
    ],
)
def test_where_a_store_is_is_told_without_its_password(store: str, told: str) -> None:
    assert without_password(store) == told


def test_a_picture_of_any_size_becomes_a_small_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    head, _, content = data_uri(tmp_path / "noise.png").partition(",")
    assert head == "data:image/jpeg;base64"
    encoded = base64.b64decode(content)
    assert len(encoded) <= PICTURE_BYTES
    assert Image.open(io.BytesIO(encoded)).width <= 1200
