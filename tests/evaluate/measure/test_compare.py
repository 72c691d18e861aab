from __future__ import annotations

from pathlib import Path

from palate.evaluate.measure.answering import PromptSet, Spoken
from palate.evaluate.measure.candidate import Candidate
from palate.evaluate.measure.compare import (
    Piece,
    differing,
    figures,
    word_pieces,
    write_comparison,
)
from palate.evaluate.measure.gathering import HELDOUT, Gathered, Texts
from palate.judge.rules import RuleResult
from palate.records import Example, Message

ASKED = ("one", "two <b>", "three")


def gathered(name: str, *texts: str, failure: str | None = None) -> Gathered:
    answers = [[Spoken((1,), text, finished=True)] for text in texts]
    if failure:
        answers[-1] = [Spoken((), "", finished=False, failure=failure)]
    return Gathered(Candidate(name, name), answers={HELDOUT: answers})


def texts() -> Texts:
    examples = tuple(Example((Message("user", text),), ()) for text in ASKED)
    return Texts((PromptSet(HELDOUT, examples, 8),))


def test_words_that_the_first_text_does_not_have() -> None:
    assert word_pieces("the red cat", "the blue cat sat") == (
        Piece("the ", "same"),
        Piece("blue", "new"),
        Piece(" cat", "same"),
        Piece(" sat", "new"),
    )
    assert word_pieces("a", "a") == (Piece("a", "same"),)
    assert word_pieces("a", "") == ()
    joined = "".join(piece.text for piece in word_pieces("x  y", "x \n y z!"))
    assert joined == "x \n y z!", "nothing of the text is lost"


def test_prompts_where_models_differ_most_come_first() -> None:
    base = gathered("base", "a b c d", "a b c d", "same")
    other = gathered("other", "a b c e", "w x y z", "same")
    found = differing([base, other], texts())
    assert [one.asked for one in found] == ["two <b>", "one"]
    assert [one.distance for one in found] == [1.0, 0.25], "ratio 2·3/8 of words in common"
    lost = gathered("lost", "q", "r", "s", failure="prompt-too-long")
    assert [one.asked for one in differing([base, lost], texts())] == ["one", "two <b>"]


def report(name: str, words: float) -> dict[str, object]:
    return {
        "model": {"name": name},
        "answers": {
            "before": {"words": 10.0, "finished": 1.0, "distinct_2": 0.5},
            "after": {"words": words, "finished": 1.0, "distinct_2": 0.5},
            "words_change": words / 10 - 1,
        },
        "gate": {"passed": False, "checks": [{"about": "x & y", "passed": False, "value": None}]},
    }


def test_one_table_for_all_models() -> None:
    rows = figures([report("a", 11.0), report("b", 5.0)])
    assert rows[0][0] == "words an answer"
    assert rows[0][1] == "10.0"
    assert rows[0][2].startswith("11.0 (+10")
    assert rows[0][3].startswith("5.0 (")


def test_the_page_holds_text_and_no_markup_of_models(tmp_path: Path) -> None:
    base = gathered("base", "plain", "<script>alert(1)</script>", "same")
    mine = gathered("mine", "plain words", "<img src=x onerror=1>", "same")

    def rule(prompt: object, answer: str) -> RuleResult:
        return RuleResult(answer.startswith("plain"), 1.0)

    path = tmp_path / "page.html"
    write_comparison(path, [report("mine", 9.0)], [mine, base], texts(), rule)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;" in page
    assert "<ins>words</ins>" in page.replace("<ins> words</ins>", "<ins>words</ins>")
    assert "two &lt;b&gt;" in page
    assert "x &amp; y: not measured" in page
    assert "passes, 1 word<" in page
