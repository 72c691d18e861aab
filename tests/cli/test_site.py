"""`palate ui` as its owner starts it: links, refusals, its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from palate.cli.main import app

RUNNER = CliRunner()


@contextmanager
def started(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "palate.cli", "ui", "--port", "0", "--json", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_it_prints_links_that_work_and_ends_at_a_signal(tmp_path: Path) -> None:
    with started(tmp_path, "--annotator", "ann", "--me", "kim") as (process, told):
        client = httpx.Client(follow_redirects=True)
        assert "Hello, kim" in client.get(told["link"]).text
        assert (tmp_path / "palate.db").is_file()
        ann = httpx.Client(base_url=told["url"])
        token = httpx.URL(told["annotators"]["ann"]).params["token"]
        ann.headers.update({"authorization": f"Bearer {token}", "x-palate-name": "ann"})
        assert ann.get("/index.json").json()["person"] == "ann"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_torch_is_never_loaded(tmp_path: Path) -> None:
    """The process that listens holds no tensor library, whatever pages were asked for."""
    with started(tmp_path) as (process, told):
        client = httpx.Client(follow_redirects=True, base_url=told["url"])
        client.get(told["link"])
        for path in [one["place"] for one in client.get("/index.json").json().get("areas", [])]:
            client.get(path)
        maps = Path(f"/proc/{process.pid}/maps")
        if not maps.exists():
            pytest.skip("no /proc here")
        assert "libtorch" not in maps.read_text()


def refused(*words: str) -> str:
    done = RUNNER.invoke(app, ["ui", *words])
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    return str(done.stderr)


def test_the_network_demands_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--token" in refused("--host", "0.0.0.0")  # noqa: S104 - refused
    assert "8 characters" in refused("--host", "0.0.0.0", "--token", "short")  # noqa: S104
    assert not (tmp_path / "palate.db").exists()


def test_bad_settings_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "guidelines" in refused("--guidelines", "nowhere.md")
    assert "'judge/x' cannot be" in refused("--me", "judge/x")
    assert "is a folder" in refused("--db", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in refused("--port", str(taken.getsockname()[1]))


def test_annotators_names_are_checked_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be an annotator's name" in refused("--port", "0", "--annotator", "a/b")
    assert "your own name" in refused("--port", "0", "--me", "kim", "--annotator", "kim")
    assert list(tmp_path.iterdir()) == []
