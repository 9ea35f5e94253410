"""Data at an S3 address: a real server, real keys, real refusals."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import s3fs
import torch

from deblur.data.crops import EpochBatches
from deblur.data.dataset import DeblurDataset
from deblur.data.feed import CropFeed, feed
from deblur.data.listing import find_splits, list_data
from deblur.data.manifest import read_manifest
from deblur.data.pairs import data_kind, open_pairs
from deblur.data.prepare import prepare
from deblur.data.storage import list_files, location, state_of
from deblur.errors import DataError
from tests.s3 import S3Server, s3_server

pytestmark = pytest.mark.slow
BUCKET = "deblur-data"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def store(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> s3fs.S3FileSystem:
    """The store, with its key in the environment as for any S3 client."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if not store.exists(BUCKET):
        store.mkdir(BUCKET)
    return store


@pytest.fixture
def address(store: s3fs.S3FileSystem, tiny_root: Path) -> str:
    """The tiny set in the store."""
    store.put(str(tiny_root), f"{BUCKET}/tiny", recursive=True)
    return f"s3://{BUCKET}/tiny"


def test_a_data_set_in_s3_is_found_and_read(address: str, tiny_root: Path) -> None:
    splits = find_splits(address)
    assert {s: [(p.scene, p.name) for p in pairs] for s, pairs in splits.items()} == {
        s: [(p.scene, p.name) for p in pairs] for s, pairs in find_splits(tiny_root).items()
    }
    assert data_kind(address) == "recorded"
    there, here = open_pairs(address, "train"), open_pairs(tiny_root, "train")
    assert [there.size(i) for i in range(4)] == [here.size(i) for i in range(4)]
    for a, b in zip(there.read(3), here.read(3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loader_processes_read_from_s3(address: str, tiny_root: Path) -> None:
    def batches(data: str | Path, workers: int) -> list[torch.Tensor]:
        dataset = DeblurDataset(data, patch_size=48)
        order = EpochBatches(len(dataset), 2, 0, range(1))
        return [
            batch.pixels for batch in feed(CropFeed(dataset), order, workers, torch.device("cpu"))
        ]

    assert all(map(torch.equal, batches(address, 2), batches(tiny_root, 0)))


def test_a_data_set_in_s3_is_prepared_and_updated(
    address: str, store: s3fs.S3FileSystem, tiny_root: Path, tiny_data: Path, tmp_path: Path
) -> None:
    first = prepare(address, tmp_path)
    assert first.digest == read_manifest(tiny_data).digest
    assert first.source == address
    assert prepare(address, tmp_path) == first
    scene = "val/lettering-val"
    store.put(str(tiny_root / scene / "sharp/000001.png"), f"{BUCKET}/tiny/{scene}/blur/000001.png")
    second = prepare(address, tmp_path)
    (entry,) = second.splits["val"].pairs
    assert entry.blur_sha256 == entry.sharp_sha256


def test_the_state_of_a_file_changes_with_its_content(store: s3fs.S3FileSystem) -> None:
    file = location(f"s3://{BUCKET}/one/file.txt")
    file.write_text("a")
    assert list_files(location(f"s3://{BUCKET}/one")) == ["file.txt"]
    before = state_of(file)
    file.write_text("b")
    list_files(location(f"s3://{BUCKET}/one"))
    assert None is not state_of(file) != before


def test_a_wrong_key_is_refused_with_what_to_check(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError) as raised:
        list_data(address)
    assert str(raised.value).startswith(f"{address} cannot be read (")
    assert "AWS_SECRET_ACCESS_KEY" in str(raised.value)


def test_a_store_that_is_not_there_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match="AWS_ENDPOINT_URL"):
        list_data(address)


def test_a_bucket_that_is_not_there_is_refused(store: s3fs.S3FileSystem) -> None:
    with pytest.raises(DataError, match="s3://nobody-has-this/data"):
        list_data("s3://nobody-has-this/data")
