"""The server's configuration."""

from pathlib import Path

import pytest

from deblur.errors import ConfigError
from deblur.serving.config import ServerConfig


def test_the_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1\nmax_megapixels = 1\nqueue_megapixels = 1.5\n")
    environment = {"DEBLUR_PORT": "2", "DEBLUR_MAX_MEGAPIXELS": "2", "HOME": "/", "DEBLUR_HOST": ""}
    config = ServerConfig.load({"port": 3}, environment, file)
    assert (config.port, config.max_megapixels, config.queue_megapixels) == (3, 2, 1.5)
    assert (config.host, config.max_megabytes) == ("127.0.0.1", 64)


def test_values_come_as_text_from_the_environment() -> None:
    config = ServerConfig.load(
        {},
        {
            "DEBLUR_HOST": "0.0.0.0", "DEBLUR_OPEN_ACCESS": "true", "DEBLUR_LOG_FORMAT": "json",
            "DEBLUR_CORS_ORIGINS": "https://a.example,https://b.example",
        },
    )  # fmt: skip
    assert config.open_access and config.log_format == "json"
    assert config.cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7"])
def test_other_machines_need_a_key_unless_access_is_opened(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"on {host} other machines can call the server: name"):
        ServerConfig.load({"host": host}, {})
    assert ServerConfig.load({"host": host, "open_access": "true"}, {}).host == host
    assert ServerConfig.load({"host": host, "api_keys": tmp_path}, {}).host == host
    assert ServerConfig.load({"host": "localhost"}, {}).api_keys is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown key 'prot'; did you mean 'port'?"),
        ("port = 70000", "port = 70000: Input should be less than or equal to 65535"),
        ("port 8000", "cannot be read .*expected TOML with lines as max_megapixels = 50"),
    ],
)
def test_a_bad_file_is_told_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        ServerConfig.load({}, {}, file)
