"""Who may stand in the arena, what they are called, and what `palate serve` is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.config import ConfigError
from palate.ui.arena.contenders import command, key_of, offered, read

SMALL = "smollm2-135m-instruct"


def run(runs: Path, name: str, *, finished: bool = True, base: str = SMALL) -> Path:
    folder = runs / name
    (folder / "model").mkdir(parents=True)
    text = f"name: {name}\nmodel: {base}\ndata: {{path: pairs.jsonl}}\n"
    (folder / "config.yaml").write_text(text)
    if finished:
        (folder / "model" / "config.json").write_text("{}")
    return folder


def test_finished_runs_stand_beside_their_bases_and_the_models_that_were_named(
    tmp_path: Path,
) -> None:
    run(tmp_path, "one", base="/models/tiny")
    run(tmp_path, "half", finished=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("model: [")
    stage = run(tmp_path, "two") / "0-sft"
    (tmp_path / "two" / "model" / "config.json").unlink()
    run(stage.parent, stage.name)
    found = offered(tmp_path, ["smollm2-135m-instruct"])
    assert {(one.key, one.name) for one in found} == {
        ("run:one", "one"),
        ("base:one", "tiny"),
        ("run:two", "two"),
        ("base:two", "smollm2-135m-instruct"),
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
    }
    assert offered(tmp_path / "nowhere", []) == []


def test_what_palate_serve_is_told(tmp_path: Path) -> None:
    run(tmp_path, "one")
    base, tuned = read("base:one", tmp_path), read("run:one", tmp_path)
    far = read("https://host.example/v1#big", tmp_path)
    words, order = command([base, tuned])
    assert words == ["--base", str(tmp_path / "one"), "--", str(tmp_path / "one")]
    assert order == [tuned, base], "as `palate serve --attached` tells of them"
    assert command([tuned, base])[0] == words, "the order of the choice loads nothing anew"
    assert command([far, far]) == (["--"], [])


def test_a_server_is_a_url_with_a_model_and_the_name_of_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read("https://host.example/v1/#big key_env=SOME_KEY extra.top_p=0.9", tmp_path)
    assert one.server is not None
    assert (one.name, one.kind) == ("big", "server")
    assert (one.server.url, one.server.extra) == ("https://host.example/v1", {"top_p": 0.9})
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable SOME_KEY: set it"):
        key_of(one.server)
    monkeypatch.setenv("SOME_KEY", " sk-secret ")
    assert key_of(one.server) == "sk-secret"
    assert "sk-secret" not in repr(one)
    plain = read("http://127.0.0.1:8000/v1#m", tmp_path).server
    assert plain is not None
    assert key_of(plain) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://host.example/v1", "say which model"),
        ("https://user:pw@host.example/v1#m", "no key"),
        ("https://host.example/v1#m key=sk-1", "key is not known here"),
        ("run:../secret", "there is no run"),
        ("run:one/../..", "there is no run"),
        ("base:none", "there is no run 'none'"),
        ("--host=0.0.0.0", "name a model"),
        ("", "name a model"),
        ("a\nb", "name a model"),
    ],
)
def test_what_is_no_contender_is_refused(tmp_path: Path, text: str, why: str) -> None:
    run(tmp_path, "one")
    with pytest.raises(ConfigError, match=why):
        read(text, tmp_path / "one" if text == "run:../secret" else tmp_path)
