"""API keys, their limits, and pages elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from deblur.errors import ConfigError
from deblur.images import Limits
from deblur.serving.admission import BusyError
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.serving.keys import Key, Keys, digest_of, new_key, read_keys
from tests.serving.conftest import encoded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_new_key_is_found_by_its_digest_alone(file: Path) -> None:
    key, line = new_key("shop", per_minute=30)
    file.write_text(f"# callers\n{line}\n\nother {'ab' * 32}  # of the other team\n")
    assert key not in file.read_text()
    keys = read_keys(file)
    holder = keys.holder(key)
    assert holder and (holder.name, holder.per_minute) == ("shop", 30)
    assert keys.holder(key + "x") is None
    assert keys.holder("") is None
    assert keys.holder(digest_of(key)) is None


@pytest.mark.parametrize(
    "line", ["shop", "shop abc", f"shop {'zz' * 32}", f"shop {'ab' * 32} many", f"a {'ab' * 32} 0"]
)
def test_a_bad_line_is_named(file: Path, line: str) -> None:
    file.write_text(f"good {'ab' * 32}\n{line}\n")
    with pytest.raises(ConfigError, match="keys, line 2: expected  NAME DIGEST"):
        read_keys(file)


def test_a_file_without_keys_is_an_error(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(file)
    file.write_text("# none yet\n")
    with pytest.raises(ConfigError, match="holds no keys: make one with"):
        read_keys(file)


def test_only_callers_with_a_key_get_pictures_deblurred(
    engine: Engine, photograph: np.ndarray
) -> None:
    content = encoded(photograph)
    keys = Keys([Key("shop", digest_of("right"))])
    with TestClient(create_app(engine, keys=keys)) as client:
        refused = client.post("/v1/deblur", content=content)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "send it as  Authorization: Bearer KEY" in refused.json()["detail"]
        for headers in ({"authorization": "Bearer wrong"}, {"authorization": "right"}):
            assert client.post("/v1/deblur", content=content, headers=headers).status_code == 401
        for headers in ({"authorization": "Bearer right"}, {"x-api-key": "right"}):
            assert client.post("/v1/deblur", content=content, headers=headers).status_code == 200
        for path in ("/healthz", "/readyz", "/startupz", "/metrics", "/docs"):
            assert client.get(path).status_code == 200


def test_a_key_counts_its_megapixels(engine: Engine, photograph: np.ndarray) -> None:
    each = photograph.shape[0] * photograph.shape[1] / 1e6
    keys = Keys(
        [Key("small", digest_of("small"), per_minute=2.5 * each), Key("any", digest_of("any"))]
    )
    with TestClient(create_app(engine, Limits(1, 0.1), keys=keys)) as client:

        def status(key: str) -> int:
            answer = client.post(
                "/v1/deblur", content=encoded(photograph), headers={"x-api-key": key}
            )
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 30
                assert "the key 'small' may send" in answer.json()["detail"]
            return answer.status_code

        assert [status("small") for _ in range(3)] == [200, 200, 429]
        assert status("any") == 200


def test_a_keys_megapixels_come_back_with_time() -> None:
    key = Key("a", digest_of("a"), per_minute=60)
    now = key._at
    key.spend(60, lambda: now)
    with pytest.raises(BusyError) as refused:
        key.spend(10, lambda: now + 4)
    assert refused.value.retry_after == 6
    key.spend(10, lambda: now + 10)
    key.spend(600, lambda: now + 1000)  # larger than a minute's, after a pause


def test_a_page_elsewhere_may_call_only_if_it_is_named(
    engine: Engine, photograph: np.ndarray
) -> None:
    app = create_app(
        engine, keys=Keys([Key("a", digest_of("a"))]), cors_origins=["https://app.example"]
    )
    asking = {"access-control-request-method": "POST"}
    with TestClient(app) as client:
        allowed = client.options("/v1/deblur", headers={"origin": "https://app.example", **asking})
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        other = client.options("/v1/deblur", headers={"origin": "https://evil.example", **asking})
        assert "access-control-allow-origin" not in other.headers
        answer = client.post(
            "/v1/deblur", content=encoded(photograph),
            headers={"origin": "https://app.example", "x-api-key": "a"},
        )  # fmt: skip
        assert "X-Deblur-Tiles" in answer.headers["access-control-expose-headers"]
        # The page has to be able to read why it was refused.
        refused = client.post("/v1/deblur", headers={"origin": "https://app.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
