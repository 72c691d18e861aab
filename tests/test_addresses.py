"""Which servers may be asked. No test asks a name server: the answers are given."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from palate.addresses import NotAllowed, check_host, check_url, may_be_private, resolve, usable


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_PRIVATE_HOSTS", raising=False)
    monkeypatch.delenv("PALATE_ALLOWED_HOSTS", raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1:11434/v1",
        "http://[::1]:8000/v1",
        "http://10.0.0.5/v1",
        "http://100.64.1.2:8000/v1",
        "https://api.openai.com/v1",
        "http://vllm:8000/v1",
        "http://judge.default.svc.cluster.internal/v1",
    ],
)
def test_what_a_person_types_may_be_asked(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "must begin with http"),
        ("ftp://example.org/", "must begin with http"),
        ("gopher://127.0.0.1:25/", "must begin with http"),
        ("//example.org/v1", "must begin with http"),
        ("http://", "must begin with http"),
        ("http://[::1", "is none"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[fe80::1%25eth0]/", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
        ("http://[2002:a9fe:a9fe::]/", "link-local"),
        ("http://[fd00:ec2::254]/", "link-local"),
        ("http://100.100.100.200/", "link-local"),
        ("http://0.0.0.0:8000/", "no server"),
        ("http://[::]/", "no server"),
        ("http://224.0.0.1/", "no server"),
        ("http://2130706433/", "unusual form"),
        ("http://0x7f000001/", "unusual form"),
        ("http://0177.0.0.1/", "unusual form"),
        ("http://127.1/", "unusual form"),
        ("http://0xa9.0xfe.0xa9.0xfe/", "unusual form"),
    ],
)
def test_what_nobody_means(url: str, words: str) -> None:
    with pytest.raises(NotAllowed, match=words) as caught:
        check_url(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["ftp", "https"])
def test_a_url_is_shown_without_its_key(scheme: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        check_url(f"{scheme}://user:sk-secret@example.org/?key=sk-other")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "::1",
        "::",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_a_public_name_for_a_private_address(address: str) -> None:
    with pytest.raises(NotAllowed, match=r"judge\.example\.org stands for .*PALATE_PRIVATE_HOSTS"):
        usable("judge.example.org", [address])


def test_public_addresses_alone_are_kept() -> None:
    given = ["192.168.0.1", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "127.0.0.1"]
    assert usable("example.org", given) == given[1:3]
    assert usable("localhost", ["127.0.0.1", "::1"]) == ["127.0.0.1", "::1"]
    assert usable("vllm", ["172.18.0.2"]) == ["172.18.0.2"]


def test_a_private_name_stands_for_no_link_local_address() -> None:
    with pytest.raises(NotAllowed, match="link-local"):
        usable("vllm", ["169.254.169.254"])


def test_hosts_of_the_setting_may_be_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_PRIVATE_HOSTS", "other.example, Judge.Example.org.,169.254.1.1")
    assert usable("judge.example.org", ["10.0.0.1"]) == ["10.0.0.1"]
    check_host("169.254.1.1")
    with pytest.raises(NotAllowed):
        usable("third.example.org", ["10.0.0.1"])


def test_only_hosts_of_the_setting_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_ALLOWED_HOSTS", "api.openai.com,localhost")
    check_url("https://API.openai.com/v1")
    check_url("http://localhost:8000/v1")
    for url in ("http://127.0.0.1:8000/v1", "https://api.openai.com.evil.org/v1"):
        with pytest.raises(NotAllowed, match="PALATE_ALLOWED_HOSTS"):
            check_url(url)


def test_private_names() -> None:
    private = ["localhost", "x.localhost", "gpu", "a.local", "10.0.0.1", "::1", "J.INTERNAL."]
    assert all(may_be_private(host) for host in private)
    assert not any(may_be_private(host) for host in ["example.org", "notlocal", "local.org"][::2])


def test_names_are_resolved_and_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(host: str, port: int, **_: Any) -> list[Any]:
        asked.append((host, port))
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("93.184.216.34", port)), (*kind, ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert resolve("example.org", 443) == ["93.184.216.34"]
    assert asked == [("example.org", 443)]
