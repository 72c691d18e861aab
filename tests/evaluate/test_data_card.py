"""The data card: what it says, that it is closed to the outside, and that nothing breaks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palate.curate.funnel import Funnel
from palate.curate.lint import Finding, Number, Report
from palate.evaluate.bars import Side, bar, histogram
from palate.evaluate.data_card import Card, render, write_data_card
from palate.evaluate.data_facts import languages
from palate.records import Completion, Example, Message, Provenance, Reject, Verdict

BAD = '<script>alert(1)</script><img src="http://evil.example/x.png">'


class Page(HTMLParser):
    """A parsed page: every tag with its attributes, and the text outside of style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.words.append(data)

    def count(self, tag: str, of: str | None = None) -> int:
        return sum(name == tag and (of is None or a.get("class") == of) for name, a in self.tags)


def _pair(at: int, source: str = "log.jsonl", **other: Any) -> Example:
    completions = (
        Completion((Message("assistant", f"better {at} " * 5),), source="large", score=0.5),
        Completion((Message("assistant", f"worse {at}"),), source="small"),
    )
    made = Example(
        (Message("system", "Be kind."), Message("user", f"question {at}")),
        completions,
        Verdict(0, 1, by="thumbs"),
        tags={"app": "desk"},
        provenance=(Provenance(source, at, f"2026-01-{at + 1:02d}"),),
    )
    return replace(made, **other)


def _number(check: str = "length", value: float = 0.75) -> Number:
    return Number(check, "the longer answer wins", value, value - 0.04, value + 0.04, 20)


def _report(findings: tuple[Finding, ...] = ()) -> Report:
    return Report("pair", 20, 20, 20, (_number(), _number("words", 0.5)), findings)


FINDING = Finding(
    "length", "warning", _number(), "Length alone predicts it.", "Make them equal.", ("abc", "def")
)


@pytest.fixture
def card() -> Card:
    funnel = Funnel()
    funnel.add("read", 30, "rows read", {"broken-json": 2})
    funnel.add("filter", 20, "pairs", {"duplicate": 8})
    funnel.add("train", 18, "train")
    funnel.add("held-out", 2, "held-out")
    rejects = [
        Reject("log.jsonl", 40 + n, "duplicate", f"a copy of {n}", "asked") for n in range(8)
    ]
    rejects += [Reject("log.jsonl", 60 + n, "broken-json", "no JSON", "{") for n in range(2)]
    pairs = [_pair(at) for at in range(20)]
    return Card(
        name="desk",
        target="runs/my desk",
        train=pairs[:18],
        heldout=pairs[18:],
        rejects=rejects,
        funnel=funnel,
        report=_report((FINDING,)),
        content_hash="ab" * 32,
        settings={"path": "log.jsonl", "heldout": 0.1, "filters": {"personal": "off", "x": None}},
        files={"train.parquet": "cd" * 32},
        licence="CC-BY-4.0",
    )


def test_it_says_what_is_there(card: Card) -> None:
    page = Page(render(card))
    for words in (
        "20 pairs: 18 to learn from, 2 held out",
        "ab" * 32,
        "Licence CC-BY-4.0",
        "30 rows read",
        "read: 2 broken-json",
        "filter: 8 duplicate",
        "Warning. length: 75 % [71, 79] Length alone predicts it. Cure: Make them equal.",
        "For instance abc , def",
        "Every number that was measured (2)",
        "words the longer answer wins 50 % [46, 54] 20",
        "Distinct prompts 20",
        "Verdicts by 20 thumbs",
        "Better answers written by 20 large",
        "Worse answers written by 20 small",
        "System prompts in 20 of 20, 1 different",
        "Tags 20 app",
        "train 18 18 90 %",
        "held-out 2 2 10 %",
        "duplicate 8",
        "log.jsonl:40",
        "log.jsonl 20 2026-01-01 to 2026-01-20 not here (any more)",
        "train.parquet " + "cd" * 32,
        "data.filters.personal off",
        "data.filters.x not set",
        "palate data lint 'runs/my desk'",
    ):
        assert words in page.text, words
    assert page.count("article", "prompt") == 6
    assert page.count("svg") == 4 + 2  # the funnel's steps, the lengths of prompts and answers


def test_nothing_is_loaded_and_nothing_runs(card: Card) -> None:
    page = Page(render(card))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "embed", "form", "a"}
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert not set(attrs) & {"src", "href", "xlink:href", "srcset", "action", "style"}, tag
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy == [
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ]
    for outside in ("url(", "@import", "xmlns", "http:", "https:"):
        assert outside not in page.source


def test_what_others_wrote_is_only_ever_text(card: Card) -> None:
    bad = Message("assistant", BAD)
    hostile = _pair(
        3,
        source=BAD,
        prompt=(Message("system", BAD), Message("user", BAD), bad, Message("user", BAD)),
        completions=(Completion((bad,), source=BAD), Completion((Message("assistant", "no"),))),
        verdict=Verdict(0, 1, by=BAD),
        tags={BAD: BAD},
    )
    funnel = Funnel()
    funnel.add(BAD, 1, BAD, {BAD: 1}, BAD)
    page = Page(
        render(
            replace(
                card,
                name=BAD,
                target=BAD,
                train=[hostile],
                heldout=[],
                rejects=[Reject(BAD, 1, BAD, BAD, BAD)],
                funnel=funnel,
                report=_report((replace(FINDING, sentence=BAD, cure=BAD, examples=(BAD,)),)),
                settings={BAD: BAD},
                files={BAD: BAD},
                licence=BAD,
            )
        )
    )
    assert page.count("script") == page.count("img") == 0
    assert page.text.count("<script>alert(1)</script>") >= 20


def test_control_characters_become_visible(card: Card) -> None:
    odd = _pair(1, prompt=(Message("user", "a\x00b\x1b[31m \ud800 \x9b"),))
    source = render(replace(card, train=[odd], heldout=[]))
    assert not {"\x00", "\x1b", "\x9b", "\ud800"} & set(source)
    assert "a\u2400b\u241b[31m" in source


def test_a_card_without_quotes_holds_no_text_of_the_data(card: Card) -> None:
    page = Page(render(replace(card, examples=0)))
    for words in ("better 1", "worse 1", "question 1", "a copy of", "Be kind", "asked", "quotes"):
        assert words not in page.text, words
    assert "duplicate 8" in page.text


def test_examples_do_not_depend_on_the_order_of_the_rows(card: Card) -> None:
    def shown(one: Card) -> list[str]:
        return re.findall(r'plain">([0-9a-f]{12})</code>, ', render(one))

    turned = replace(card, train=card.train[::-1], heldout=card.heldout[::-1])
    assert len(shown(card)) == 6
    assert shown(card) == shown(turned)


def test_data_that_were_not_split(card: Card) -> None:
    whole = replace(card, split=False, train=[*card.train, *card.heldout], heldout=[])
    page = Page(render(replace(whole, content_hash=None, files={}, licence=None)))
    assert "20 pairs Content hash" in page.text
    assert "none: this is no snapshot yet" in page.text
    assert "Not split yet" in page.text
    assert "Licence not given" in page.text
    assert "rejects.jsonl" not in page.text


def test_little_is_known_of_a_bare_snapshot(card: Card) -> None:
    bare = replace(
        card, funnel=None, settings={}, files={}, rejects=[], report=_report(), heldout=[]
    )
    page = Page(render(bare))
    assert "Not known: the snapshot's manifest does not say." in page.text
    assert "The settings are not known." in page.text
    assert "no check raised anything" in page.text
    assert "What was left out Nothing." in page.text
    empty = Page(render(replace(bare, train=[], report=replace(_report(), given=0, read=0))))
    assert "There are none." in empty.text


@pytest.mark.parametrize("label", [True, False, None])
def test_single_answers(card: Card, label: bool | None) -> None:
    made = [
        replace(e, verdict=None, completions=(replace(e.completions[0], label=label),))
        for e in card.train
    ]
    shape = "demonstration" if label is None else "labelled"
    page = Page(
        render(replace(card, train=made, heldout=[], report=replace(_report(), shape=shape)))
    )
    name = {True: "thumb up", False: "thumb down", None: "answer"}[label]
    assert page.text.count(f"{name} large, 10 words, score 0.5") == 6
    assert ("Thumbs" in page.text) is (label is not None)
    text = [replace(e, prompt=()) for e in made]
    page = Page(
        render(replace(card, train=text, heldout=[], report=replace(_report(), shape="text")))
    )
    assert "18 texts" in page.text
    assert "(no prompt)" in page.text


def test_lengths_in_tokens_stand_beside_those_in_words(card: Card) -> None:
    page = Page(render(replace(card, tokens=len, model="tiny")))
    # Of 20 rejected answers "worse 0" to "worse 9" have 7 letters and the others 8.
    assert "Tokens of tiny texts 5 % median mean 95 % longest" in page.text
    assert "rejected 20 7 8 8 8 8" in page.text
    assert "rejected 20 2 2 2 2 2" in page.text


def test_the_hash_of_a_source_is_that_of_its_bytes(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"{}\n")
    page = Page(render(replace(card, train=[_pair(1, str(path))], heldout=[])))
    assert hashlib.sha256(b"{}\n").hexdigest() in page.text


def test_long_texts_are_cut_and_say_so(card: Card) -> None:
    long = _pair(1, prompt=(Message("user", "word " * 2000),))
    page = Page(render(replace(card, train=[long], heldout=[])))
    assert "… (10,000 characters)" in page.text
    assert len(page.source) < 60_000


def test_tool_calls_are_shown(card: Card) -> None:
    call: dict[str, Any] = {"function": {"name": "look_up", "arguments": "{}"}}
    turns = (Message("user", "find it"), Message("assistant", "", (call,)), Message("user", "so?"))
    made = _pair(
        1,
        prompt=turns,
        completions=(
            Completion((Message("assistant", "", (call,)),)),
            Completion((Message("assistant", "no"),)),
        ),
        tools=({"type": "function"},),
    )
    page = Page(render(replace(card, train=[made], heldout=[])))
    assert page.text.count('"look_up"') == 2
    assert "The conversation before (2 turns)" in page.text
    assert "With tools 1 example" in page.text


def test_it_is_written_whole(card: Card, tmp_path: Path) -> None:
    path = write_data_card(tmp_path / "new" / "card.html", card)
    assert path.read_text(encoding="utf-8") == render(card)
    assert [p.name for p in path.parent.iterdir()] == ["card.html"]


def test_bars_are_as_long_as_their_counts() -> None:
    assert 'width="25.00"' in bar(5, 20)
    assert 'width="0.00"' in bar(0, 0)


def _heights(drawing: str, color: str) -> list[float]:
    found = re.findall(rf'height="([\d.]+)" fill="var\(--chart-{color}', drawing)
    return [float(height) for height in found]


def test_a_histogram_has_both_sides_on_one_scale() -> None:
    drawing = histogram(Side("up", [8] * 10), Side("down", [8] * 5 + [64] * 2))
    # The tallest is 62 − 4 units high; half as many are half as high.
    assert _heights(drawing, "first") == [58.0]
    assert _heights(drawing, "second") == [29.0, 11.6]
    assert ">10<" in drawing


@pytest.mark.parametrize("lengths", [[], [0], [0, 1, 1], [10**6]])
def test_odd_lengths_draw_too(lengths: list[int]) -> None:
    assert histogram(Side("only", lengths)).endswith("</svg>")


def test_languages_are_named_where_texts_are_long_enough(make: Callable[..., Example]) -> None:
    english = "Could you please tell me how to cancel the order that I made yesterday evening?"
    german = "Könnten Sie mir bitte sagen, wie ich meine Bestellung von gestern Abend storniere?"
    said = languages(
        [make(english, 1), make(english + " Thanks.", 2), make(german, 3), make("ok", 4)]
    )
    assert said.startswith("67\u202f% en, 33\u202f% de, ")
    assert "3 prompts" in said
    assert languages([make("ok", 1)]) == ""


@pytest.fixture
def make() -> Callable[..., Example]:
    return lambda text, at: _pair(at, prompt=(Message("user", text),))
