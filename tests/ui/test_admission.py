"""Who may ask the site: each attack is tried on a real socket."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.ui.conftest import TOKEN, Open, fill, serving, until

from palate.config import ConfigError
from palate.ui import slow
from palate.ui.settings import Settings

CROSS = {"origin": "http://evil.example"}


def stranger(site: Open) -> httpx.Client:
    return httpx.Client(base_url=site.url, timeout=30)


def test_without_a_link_nothing_is_shown(site: Open) -> None:
    with stranger(site) as client:
        for path in ("/", "/index.json", "/api", "/api.json", "/nowhere"):
            assert client.get(path).status_code == 401, path
        assert client.post("/invite", json={"name": "ann"}).status_code == 401
        assert client.get("/", params={"token": "wrong-token"}).status_code == 401
        assert client.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert "palate ui" in client.get("/").text


def test_a_link_gives_a_session_and_leaves_the_address_bar(site: Open) -> None:
    with stranger(site) as client:
        found = client.get("/api?name=&x=1&token=" + TOKEN)
        assert found.status_code == 401  # an empty name is nobody's
        found = client.get("/api?x=1&token=" + TOKEN)
        assert (found.status_code, found.headers["location"]) == (303, "/api?x=1")
        cookie = found.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert TOKEN not in cookie
        assert client.get("/api").status_code == 200


def test_a_link_cannot_lead_elsewhere_or_write_headers(site: Open) -> None:
    with stranger(site) as client:
        found = client.get(f"//evil.example/x?token={TOKEN}")
        place = found.headers.get("location", "/")
        assert place.startswith("/")
        assert not place.startswith("//")
        found = client.get(f"/a%0d%0aset-cookie:%20x=1?token={TOKEN}")
        assert "\n" not in found.headers.get("location", "")
        assert "x=1" not in found.headers.get("set-cookie", "")


def test_a_page_whose_name_was_pointed_here_is_refused(site: Open) -> None:
    """DNS rebinding: the browser believes that evil.example is this machine."""
    for host in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "",
        "127.0.0.2.nip.io",
    ):
        found = site.client.get("/", headers={"host": host})
        assert found.status_code == 403, host
    port = site.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert site.client.get("/index.json", headers={"host": host}).status_code == 200, host


@pytest.mark.parametrize("path", ["/", "/index.json", "/static/site.js"])
def test_other_sites_pages_may_not_ask(site: Open, path: str) -> None:
    assert site.client.get(path, headers=CROSS).status_code == 403
    assert site.client.get(path, headers={"origin": "null"}).status_code == 403
    blind = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert site.client.get(path, headers=blind).status_code == 403


def test_another_sites_form_changes_nothing(site: Open) -> None:
    body = {"name": "ann"}
    assert site.client.post("/invite", json=body, headers=CROSS).status_code == 403
    del site.client.headers["x-csrf-token"]  # the cookie alone, as a forged form would have it
    assert site.client.post("/invite", json=body).status_code == 403
    assert (
        site.client.post("/invite", json=body, headers={"x-csrf-token": "0" * 64}).status_code
        == 403
    )
    sent = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert site.client.post("/invite", json=body, headers=sent).status_code == 403


def test_a_link_in_a_mail_opens_the_site(site: Open) -> None:
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert site.client.get("/", headers=visit).status_code == 200


def test_a_form_token_is_one_persons(site: Open) -> None:
    ann = site.annotator("ann")
    ann.headers["x-csrf-token"] = site.client.headers["x-csrf-token"]
    assert "load it again" in ann.post("/invite", json={"name": "bob"}).json()["error"]


def test_an_annotator_sees_labelling_only(site: Open) -> None:
    ann = site.annotator("ann")
    seen = ann.get("/index.json").json()
    assert (seen["person"], seen["store"]) == ("ann", None)
    assert {one["place"] for one in seen["areas"]} <= {"/label", "/arena"}
    assert all(one["stands"] is None for one in seen["areas"])
    assert ann.get("/api.json").status_code == 403
    assert ann.post("/invite", json={"name": "bob"}).status_code == 403
    link = site.client.post("/invite", json={"name": "ann"}).json()["link"]
    assert link == site.site.people.link(site.url, "ann", "/label")


def test_an_annotators_token_is_nobody_elses(site: Open) -> None:
    token = httpx.URL(site.site.people.link(site.url, "ann")).params["token"]
    with stranger(site) as client:
        assert client.get("/", params={"token": token, "name": "bob"}).status_code == 401
        assert client.get("/", params={"token": token}).status_code == 401
        owner = {"token": token, "name": site.site.settings.me}
        assert client.get("/", params=owner).status_code == 401
        named = {"authorization": f"Bearer {token}", "x-palate-name": "ann"}
        assert client.get("/index.json", headers=named).json()["person"] == "ann"


def test_a_forged_session_is_none(site: Open) -> None:
    cookie = f"palate_{site.site.settings.port}"
    forged = b"o:owner".hex() + "." + "0" * 64
    for value in (forged, "ff.00", "", "zz." + "0" * 64):
        with stranger(site) as client:
            assert client.get("/", headers={"cookie": f"{cookie}={value}"}).status_code == 401


def test_a_program_asks_with_the_token(site: Open) -> None:
    with stranger(site) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert client.get("/index.json").json()["store"]["counts"]["interactions"] == 18
        assert client.post("/invite", json={"name": "ann"}).status_code == 200


def test_every_answer_has_the_policy(site: Open) -> None:
    for path in ("/", "/index.json", "/nowhere", "/static/site.css"):
        headers = site.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_bodies_have_a_limit(tmp_path: Path) -> None:
    with serving(tmp_path, body=1000) as site:
        assert site.client.post("/invite", content=b"x" * 1001).status_code == 413

        def endless() -> Any:
            for _ in range(300):
                yield b"x" * 10

        assert site.client.post("/invite", content=endless()).status_code == 413
        assert site.client.post("/invite", json={"name": "ann"}).status_code == 200


def test_what_is_no_json_object_is_refused(site: Open) -> None:
    for body in (b"[1]", b"{", b'"x"', b"name=ann"):
        found = site.client.post("/invite", content=body)
        assert found.status_code == 400, body
        assert "JSON" in found.json()["error"]


def test_slow_clients_hold_up_nobody_and_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred connections that send a byte and stop, in the head or in the body."""
    monkeypatch.setattr(slow, "HEAD", 0.5)
    with serving(tmp_path, patience=0.5) as site:
        port = int(site.url.rpartition(":")[2])
        session = next(iter(site.client.cookies.jar))
        head = f"POST /invite HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Cookie: {session.name}={session.value}\r\n"
        head += f"X-CSRF-Token: {site.client.headers['x-csrf-token']}\r\n"
        head += "Content-Length: 9\r\n\r\n{"
        crowd = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(100)]
        for at, one in enumerate(crowd):
            one.sendall(b"GET / HT" if at % 2 else head.encode())
        assert site.client.get("/index.json").status_code == 200
        answers = [_all_of(one) for one in crowd]
        assert answers[1::2] == [b""] * 50  # no request, no answer: closed
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers[::2])


def _all_of(connection: socket.socket) -> bytes:
    with connection:
        found = b""
        while piece := connection.recv(4096):
            found += piece
            if b"}" in found:
                break
        return found


def test_paths_do_not_climb(site: Open) -> None:
    for path in (
        "/static/../../pyproject.toml",
        "/static/%2e%2e/site.py",
        "/static/..%2f..%2fapp.py",
        "/static//etc/passwd",
    ):
        assert site.client.get(site.url + path).status_code == 404, path


def test_the_open_network_asks_for_a_token() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        Settings(host="0.0.0.0", token="short")  # noqa: S104 - refused


def test_on_the_network_addresses_are_admitted_and_names_are_not(tmp_path: Path) -> None:
    with serving(tmp_path, host="0.0.0.0", hosts=("desk.example",)) as site:  # noqa: S104
        port = site.url.rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            for host, status in (
                ("192.168.1.5:8321", 200),
                ("desk.example", 200),
                ("evil.example", 403),
            ):
                found = client.get("/index.json", headers={"host": host})
                assert found.status_code == status, host


def test_an_error_of_ours_says_where_and_not_what(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.ui import home

    def broken(store: Any) -> dict[str, int]:
        raise KeyError("a user's words")

    monkeypatch.setattr(home, "counts", broken)
    found = site.client.get("/")
    assert found.status_code == 500
    assert "user's words" not in found.text
    until(lambda: site.said, "a line in the terminal")
    assert "KeyError" in site.said[-1]
    assert "user's words" not in site.said[-1]


def cookie_of(site: Open) -> tuple[str, str]:
    return next(iter(site.client.cookies.items()))


def test_cookies_of_other_programs_on_this_machine_do_not_sign_one_out(site: Open) -> None:
    """Cookies know no ports: whatever serves another one of this address is in the same jar."""
    name, session = cookie_of(site)
    with stranger(site) as client:
        for other in ('a={"x": 1}', "a=b c", "a[]=1", "a", "=", f"{name}=junk"):
            for both in (f"{other}; {name}={session}", f"{name}={session}; {other}"):
                found = client.get("/index.json", headers={"cookie": both})
                assert found.status_code == 200, both
        assert client.get("/", headers={"cookie": f"x{name}={session}"}).status_code == 401


def test_a_cookie_for_a_part_of_the_site_does_not_change_who_asks(site: Open) -> None:
    """A browser sends the cookie of the longer path first (RFC 6265, 5.4); ours is for /."""
    name, session = cookie_of(site)
    with stranger(site) as client:
        tossed = site.annotator("mallory").cookies[name]
        both = {"cookie": f"{name}={tossed}; {name}={session}"}
        assert client.get("/index.json", headers=both).json()["person"] == "owner"


def test_credentials_that_are_no_token_do_not_replace_the_form_token(site: Open) -> None:
    """A browser sends them with http://name:word@host/."""
    name, session = cookie_of(site)
    with stranger(site) as client:
        for given in ("Basic Zm9vOmJhcg==", "bearer", "x"):
            headers = {"cookie": f"{name}={session}", "authorization": given}
            assert client.get("/index.json", headers=headers).status_code == 200
            assert client.post("/invite", json={"name": "ann"}, headers=headers).status_code == 403


def test_a_link_with_a_backslash_cannot_lead_elsewhere(site: Open) -> None:
    """Browsers read it as a slash."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    for path in ("/\\evil.example/", "/\\/evil.example/", "\\\\evil.example/"):
        with socket.create_connection((host, int(port)), 30) as client:
            line = f"GET {path}?token={TOKEN} HTTP/1.1\r\nhost: {host}:{port}\r\n"
            client.sendall(f"{line}connection: close\r\n\r\n".encode())
            answer = client.makefile("rb").read()
        places = [x for x in answer.split(b"\r\n") if x.startswith(b"location:")]
        if answer.startswith(b"HTTP/1.1 400 "):
            continue  # no path at all
        assert places == [b"location: /evil.example/"], path


def test_a_page_that_came_through_a_proxy_with_tls_may_post(tmp_path: Path) -> None:
    fill(tmp_path / "palate.db")
    with serving(tmp_path, hosts=("label.example",)) as site:
        named = {"host": "label.example", "origin": "https://label.example"}
        named["sec-fetch-site"] = "same-origin"
        assert site.client.post("/invite", json={"name": "ann"}, headers=named).status_code == 200
        for origin in ("https://label.example:8443", "https://evil.example", "ftp://label.example"):
            found = site.client.post("/invite", json={}, headers={**named, "origin": origin})
            assert found.status_code == 403, origin
