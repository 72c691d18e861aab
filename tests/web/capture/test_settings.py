"""The settings of the proxy: where they come from, and which are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.config import ConfigError
from palate.web.capture.feedback import FIELDS
from palate.web.capture.settings import CaptureConfig, load_settings
from palate.web.capture.upstream import end_to_end, environment_proxy, is_loopback, joined

URL = "https://api.example.com/v1"


def test_the_file_then_overrides_then_flags(tmp_path):
    file = tmp_path / "capture.yaml"
    file.write_text(f"upstream: {URL}\nsample: 0.5\nport: 1\nhost: localhost\n")
    flags = {"port": 3, "db": None}
    config = load_settings(str(file), ["port=2", "host=::1"], flags)
    assert (config.sample, config.host, config.port) == (0.5, "::1", 3)
    assert (config.db, config.upstream) == ("palate.db", URL)


def test_the_source_names_the_provider():
    assert CaptureConfig(upstream="http://127.0.0.1:8000/v1/").source == "capture:127.0.0.1:8000"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "'upstream' is missing: give --upstream URL"),
        ({"upstream": "api.example.com"}, "base URL"),
        ({"upstream": "ftp://a/b"}, "base URL"),
        ({"upstream": "http://[::1"}, "base URL"),
        ({"upstream": "http://a:99999"}, "base URL"),
        ({"upstream": "https://me:sk-1@a/v1"}, "has no key"),
        ({"upstream": "https://a/v1?key=sk-1"}, "has no key"),
        ({"upstream": URL, "smaple": 1}, "did you mean 'sample'"),
        ({"upstream": URL, "sample": 2}, "'sample'"),
        ({"upstream": URL, "port": 70000}, "'port'"),
        ({"upstream": URL, "paths": ["chat"]}, "slash"),
        ({"upstream": URL, "retention_days": 0}, "'retention_days'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(None, [], settings)
    assert "\n" not in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(str(tmp_path / "nothing.yaml"))
    for text in ("- a\n", "a: [\n", "\x00"):
        bad = tmp_path / "bad.yaml"
        bad.write_text(text)
        with pytest.raises(ConfigError, match="settings"):
            load_settings(str(bad))


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("", "/v1/models", "/v1/models"),
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1", "/models", "/v1/models"),
        ("/v1", "/v1", "/v1"),
        ("/v1", "/v1beta/models", "/v1/v1beta/models"),
        ("/api/v1", "/api/v1/models", "/api/v1/models"),
        ("/api/v1", "/v1/models", "/api/v1/models"),
        ("/api/v1", "/models", "/api/v1/models"),
        ("/openai/v1", "/", "/openai/v1/"),
    ],
)
def test_the_upstreams_path_is_there_once(base, path, target):
    assert joined(base.encode(), path.encode()) == target.encode()


def test_headers_of_the_connection_are_left_out():
    headers = [
        (b"Connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Yours", b"2"),
        (b"host", b"a"),
    ]
    assert end_to_end(headers, {b"host"}) == [(b"X-Yours", b"2")]


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("192.168.1.4", False),
        ("example.com", False),
    ],
)
def test_loopback_is_told_from_the_rest(host, inside):
    assert is_loopback(host) is inside


def test_the_proxy_of_the_environment_is_asked_like_any_client_asks_it(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert environment_proxy("https", "api.example.com") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.internal:3128")
    monkeypatch.setenv("NO_PROXY", "models.internal")
    assert environment_proxy("https", "api.example.com") == "http://proxy.internal:3128"
    assert environment_proxy("http", "api.example.com") is None
    assert environment_proxy("https", "models.internal") is None
    assert environment_proxy("https", "127.0.0.1") is None


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "capture.md").read_text(encoding="utf-8")


def test_the_page_lists_every_setting_with_its_default():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.split("## Settings")[1], re.MULTILINE)
    )
    assert list(rows) == list(CaptureConfig.model_fields)
    for name, field in CaptureConfig.model_fields.items():
        if field.is_required():
            assert rows[name] == "needed"
        elif field.default is None:
            assert rows[name] == "none"
        else:
            default = field.default if isinstance(field.default, list) else [field.default]
            assert rows[name].replace("`", "").split(", ") == [
                f"{value:g}" if isinstance(value, float) and value != 1 else str(value)
                for value in default
            ]


def test_the_page_lists_every_field_of_feedback():
    section = PAGE.split("## Feedback")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(FIELDS)


def test_the_settings_of_the_page_can_be_read(tmp_path):
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "capture.yaml"
    file.write_text(written)
    assert load_settings(str(file)).redact == "personal"
