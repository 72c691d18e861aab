"""The report: what it says, that it is closed to the outside, and that nothing breaks it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palate.evaluate.answers import Answer, Stage
from palate.evaluate.report import render, write_report
from palate.evaluate.runfolder import read_run
from palate.evaluate.samples import SHOWN
from palate.judge.rules import RuleResult
from palate.records import Message


class Page(HTMLParser):
    """A parsed page: every tag with its attributes, and the text outside of style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.words.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}


def page(folder: Path) -> Page:
    return Page(write_report(folder))


def test_it_says_the_result_in_a_sentence(run_folder: Path) -> None:
    # 8 of 32 before; after, prompts 5 and 21 fail: 30 of 32.
    found = page(run_folder)
    assert "Follows the rule: 25 % → 94 %" in found.text
    assert "+69 points [47, 81] on 32 held-out prompts" in found.text
    assert "nats per answer" in found.text


def test_it_has_every_section(run_folder: Path) -> None:
    found = page(run_folder)
    for words in (
        "632 usable 5 broken-json, 3 missing-field",
        "Fails on: length 75 % 6 % −69 points",
        "fails: length, question",
        "follows the rule",
        "Newcombe's paired interval",
        "What this measures: a program ( examples/support_desk/rules.py:house )",
        "Method's parameters β 0.1",
        "lora, rank 16, alpha 32, on all-linear",
        "Learning rate 2e-4 (cosine, warm-up 10 %)",
        "Precision bf16",
        "Layout tree",
        "2.42 times fewer tokens",
        "torch 2.13.0",
        "machine features avx2, avx512_bf16",
        "machine memory 16.0 GiB",
        "parameters 134,515,008",
        "palate train my.yaml",
        "The first 24 of 32 held-out prompts",
        "The chosen reward falls while the margin rises",
        "The loss starts where it must",
    ):
        assert words in found.text
    assert f"palate chat {run_folder}" in found.text
    assert f"palate train {run_folder}/config.yaml name=quickstart-again" in found.text
    titles = ("Loss", "Margin", "Accuracy", "Rewards, chosen and rejected apart", "Gradient norm")
    assert all(title in found.text for title in titles)
    assert sum(tag == "svg" for tag, _ in found.tags) == 7
    assert sum(attrs.get("class") == "prompt" for _, attrs in found.tags) == SHOWN


def test_nothing_is_loaded_and_nothing_runs(run_folder: Path) -> None:
    found = page(run_folder)
    assert not found.names() & {"script", "img", "iframe", "link", "object", "embed", "form", "a"}
    for tag, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert not set(attrs) & {"src", "href", "xlink:href", "srcset", "action", "style"}, tag
    policy = [a["content"] for t, a in found.tags if a.get("http-equiv")]
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ]
    for outside in ("url(", "@import", "xmlns", "https:"):
        assert outside not in found.source
    # The only web address is the one in the hostile answer, and it is text.
    assert found.source.count("http:") == found.source.count("&#34;http://evil.example")


def test_model_text_is_only_ever_text(run_folder: Path) -> None:
    found = page(run_folder)
    assert "<script" not in found.source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found.source
    assert '<script>alert(1)</script><img src="http://evil.example/x.png"' in found.text
    assert "<b>odd</b>" in found.text  # a reason in the manifest
    assert "b" not in found.names()


def test_hostile_names_settings_and_parts_are_text(run_folder: Path) -> None:
    bad = "<script>x</script>"
    (run_folder / "config.yaml").write_text(
        f"name: '{bad}'\nmodel: {{path: '{bad}'}}\nevaluate: {{rule: '{bad}'}}\n"
        f"method: {{name: '{bad}', '{bad}': '{bad}'}}\n"
    )
    (run_folder / "environment.json").write_text(json.dumps({bad: bad}))
    results = json.loads((run_folder / "results.json").read_text())
    results["comparison"]["before"]["failed"] = {bad: 0.5}
    results["comparison"]["method"] = bad
    results["method"] = {"name": bad, bad: bad}
    (run_folder / "results.json").write_text(json.dumps(results))
    found = page(run_folder)
    assert "<script" not in found.source
    assert found.text.count(bad) > 6


def test_control_characters_become_visible(make_run: Callable[..., Path]) -> None:
    prompt = (Message("user", "a\x00b\x1b[31m"),)
    odd = Answer(prompt, "g", "\ud800 \x9b \u202e x", 3, True, "before")
    found = page(make_run("dpo", [odd, Answer(prompt, "g", "", 0, False, "after")]))
    assert not {"\x00", "\x1b", "\x9b"} & set(found.source)
    assert "a\u2400b\u241b[31m" in found.text
    assert "(empty)" in found.text
    assert "cut at the limit" in found.text
    assert "not scored" in found.text


def test_a_demonstration_run(make_run: Callable[..., Path]) -> None:
    found = page(make_run("sft", []))
    assert "Held-out loss: 2.63 → 1.83" in found.text
    assert "no answers were compared" in found.text
    assert "Margin" not in found.text
    assert "ln 2" not in found.text
    assert sum(tag == "svg" for tag, _ in found.tags) == 3


def test_the_conversation_is_folded_around_the_last_user_turn(
    make_run: Callable[..., Path],
) -> None:
    call = Message("assistant", "", tool_calls=({"name": "find"},))
    prompt = (
        Message("system", "Be short."),
        Message("user", "First question"),
        call,
        Message("user", "Last question"),
    )
    other = (Message("system", "Be long."), Message("user", "Other"))
    found = page(
        make_run(
            "dpo",
            [
                Answer(p, g, "yes", 1, True, s)
                for p, g in ((prompt, "a"), (other, "b"))
                for s in ("before", "after")
            ],
        )
    )
    assert "Last question The rest of the conversation" in found.text.replace(
        "System prompt Be short. ", ""
    )
    assert 'user: First question assistant: ["",{"name":"find"}]' in found.text
    assert found.text.count("Be long.") == 1
    assert "System prompt of all" not in found.text


FILES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "samples.jsonl",
    "results.json",
    "snapshot/manifest.json",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "binary", "list", "folder"])
def test_a_damaged_file_is_named_and_never_fatal(
    run_folder: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in {"config.yaml", "environment.json", "snapshot/manifest.json", "samples.jsonl"}:
        monkeypatch.setattr("palate.evaluate.charts.draw", lambda *_, **__: "")  # slow, untouched
    path = run_folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "binary":
        path.write_bytes(b"\x00\xff{]\n" * 3)
    elif damage == "list":
        path.write_text("[1, 2]")
    elif damage == "folder":
        path.mkdir()
    found = page(run_folder)
    if damage != "list" and (damage, name) != ("cut", "config.yaml"):
        assert f"{path.name}" in found.text.partition("What the numbers say")[0]


def test_an_empty_folder_says_that_nothing_was_measured(tmp_path: Path) -> None:
    found = page(tmp_path)
    assert "Nothing has been measured yet" in found.text
    assert "results.json is missing" in found.text
    assert found.text.count("not measured") > 10
    with pytest.raises(ValueError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items if isinstance(value, dict | list) else ():
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("name", ["results.json", "snapshot/manifest.json", "samples.jsonl"])
def test_no_value_of_another_type_breaks_it(
    make_run: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.evaluate.report.draw_shares", lambda *_: "")
    monkeypatch.setattr("palate.evaluate.report.training_figures", lambda *_: [])
    prompt = (Message("system", "s"), Message("user", "u"))
    bad = RuleResult(False, 0.0, ("length",))
    stages: tuple[Stage, ...] = ("before", "after")
    folder = make_run("dpo", [Answer(prompt, "g", "t", 1, True, s, bad, 1.0) for s in stages])
    (folder / "metrics.jsonl").write_text("")
    text = (folder / name).read_text().splitlines()[0]
    for path in leaves(json.loads(text)):
        for odd in (None, "x", [], {}, -1, True, float("nan"), [None], 10**400, ["a", "b"]):
            raw: Any = {"root": json.loads(text)}
            *above, last = ("root", *path)
            here = raw
            for key in above:
                here = here[key]
            here[last] = odd
            (folder / name).write_text(json.dumps(raw["root"]))
            render(read_run(folder))


def test_metric_lines_of_any_shape_are_drawn_or_left_out(run_folder: Path) -> None:
    odd = [
        {"kind": "train", "step": 1, "loss": float("nan"), "lr": 1e-4},
        {"kind": "train", "step": 2, "loss": None, "lr": "high"},
        {"kind": "train", "loss": 1.0},
        {"kind": "train", "step": 3, "loss": 0.5},
        {"kind": "other", "step": 3},
    ]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in odd))
    found = page(run_folder)
    assert "Training diverged" in found.text
    assert "NaN" not in "".join(part for part in found.source.split("<svg")[1:])


def test_a_resumed_run_counts_the_last_line_of_a_step(tmp_path: Path) -> None:
    lines = [(1, 0.7), (2, 0.6), (3, 0.5), (2, 0.4)]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"kind": "train", "step": s, "loss": x}) + "\n" for s, x in lines)
    )
    assert [line["loss"] for line in read_run(tmp_path).train] == [0.7, 0.4, 0.5]


def test_a_line_separator_inside_an_answer_is_not_the_end_of_its_line(tmp_path: Path) -> None:
    answer = Answer((Message("user", "u"),), "g", "one\u2028two\x85three", 3, True, "before")
    line = json.dumps(answer.to_dict(), ensure_ascii=False)
    (tmp_path / "samples.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert read_run(tmp_path).answers == (answer,)


def test_it_can_be_written_again_and_leaves_nothing_beside(run_folder: Path) -> None:
    first = write_report(run_folder).read_bytes()
    before = set(run_folder.iterdir())
    shutil.copytree(run_folder, run_folder.parent / "copy")
    assert write_report(run_folder).read_bytes() == first
    assert set(run_folder.iterdir()) == before
