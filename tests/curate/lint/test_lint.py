"""Lint on made-up data: each planted fault is found, alone, and clean data raise nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.curate.lint.faults import (
    PLANTED,
    ROWS,
    longer_wins,
    middle_wins,
    opening_wins,
    taste_in_words,
)
from tests.curate.lint.worlds import clean, examples, ranked, size, thumbs

from palate.curate.lint import CHECKS, Finding, Report, lint, registry, view
from palate.records import Completion, Example, Message


def _found(report: Report) -> list[str]:
    return sorted(finding.check for finding in report.findings)


def _one(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


@pytest.mark.parametrize("seed", range(3))
def test_clean_pairs_raise_nothing(seed: int) -> None:
    assert _found(lint(*examples(clean(seed)))) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 24))
def test_clean_pairs_raise_nothing_with_other_seeds_too(seed: int) -> None:
    assert _found(lint(*examples(clean(seed)))) == []


@pytest.mark.parametrize("seed", range(2))
def test_clean_thumbs_raise_nothing(seed: int) -> None:
    report = lint(*thumbs(clean(seed)))
    assert report.shape == "labelled"
    assert _found(report) == []
    assert report.contests > 300


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_alone(fault: str) -> None:
    report = lint(*PLANTED[fault](1))
    assert _found(report) == [fault]
    found = report.findings[0]
    assert found.number in report.numbers or found.number.name.endswith(("loses", "wins"))
    assert found.number.low <= found.number.value <= found.number.high
    assert found.sentence.endswith(".")
    assert found.cure.endswith(".")
    known = {e.id for side in PLANTED[fault](1) for e in side}
    assert set(found.examples) <= known
    assert bool(found.examples) or fault == "held-out-size"


def test_length_is_told_with_its_direction() -> None:
    rows = clean(1)
    assert "longer answer wins in 7" in _one(lint(*examples(longer_wins(rows))), "length").sentence
    shorter = [row.swapped() for row in longer_wins(rows)]
    assert "shorter answer wins in 7" in _one(lint(*examples(shorter)), "length").sentence


def test_a_target_length_is_found_where_neither_longer_nor_shorter_wins() -> None:
    found = _one(lint(*examples(middle_wins(clean(1)))), "length")
    assert "nearer to" in found.number.name
    target = int(found.number.name.split()[4])
    assert 65 <= target <= 95
    assert 0.70 <= found.number.value <= 0.79


def test_length_in_tokens_counts_if_it_tells_more() -> None:
    """A tokenizer to which every letter is a token; the words are as many, and longer."""
    rows = ranked(clean(1), lambda row: len("".join(row.chosen)) - len("".join(row.rejected)), 0.9)
    train, held = examples(rows)
    found = _one(lint(train, held, tokens=len), "length")
    assert "more tokens" in found.number.name
    assert 0.87 <= found.number.value <= 0.93


def test_thumbs_are_matched_and_their_faults_found() -> None:
    rows = ranked(clean(1), lambda row: size(row.chosen) - size(row.rejected), 1.0)
    report = lint(*thumbs(rows))
    assert report.shape == "labelled"
    assert _found(report) == ["length"]


def test_a_markers_loss_is_told_as_a_loss() -> None:
    train, held = examples([row.swapped() for row in clean(1)])
    sides = PLANTED["surface.emoji"](1)
    swapped = [
        [replace(e, verdict=replace(e.verdict, better=1, worse=0)) for e in side if e.verdict]
        for side in sides
    ]
    found = _one(lint(swapped[0], swapped[1]), "surface.emoji")
    assert found.number.name.endswith("loses")
    assert "loses in" in found.sentence
    assert found.number.low > 0.5
    assert train
    assert held


def test_words_that_form_explains_are_told_by_form_alone() -> None:
    """An opening that decides nine of ten pairs: the bag of words sees it too, and adds nothing."""
    report = lint(*examples(opening_wins(clean(1), 0.9, 1.0)))
    number = next(n for n in report.numbers if n.name.startswith("a bag of words"))
    assert number.low > 0.75
    assert _found(report) == ["opening"]


def test_the_telling_words_are_named() -> None:
    found = _one(lint(*examples(taste_in_words(clean(1)))), "words")
    from tests.curate.lint.worlds import World

    taste = World(999).words[:40]
    winner, _, loser = found.sentence.partition("for the loser")
    assert sum(word in winner for word in taste[:20]) >= 4
    assert sum(word in loser for word in taste[20:]) >= 4


@pytest.mark.parametrize(("flipped", "low", "high"), [(0.0, 0.0, 0.03), (0.15, 0.11, 0.22)])
def test_label_noise_is_estimated_where_words_decide(
    flipped: float, low: float, high: float
) -> None:
    rows = taste_in_words(clean(1, 1200), flipped, telling=0.9)
    report = lint(*examples(rows))
    number = next(n for n in report.numbers if n.check == "label-noise")
    assert low <= number.value <= high
    assert _found(report) == (["label-noise", "words"] if flipped else ["words"])
    if flipped:
        wrong = {
            noisy.id
            for noisy, right in zip(
                examples(rows)[0],
                examples(taste_in_words(clean(1, 1200), 0.0, telling=0.9))[0],
                strict=True,
            )
            if noisy.chosen.text == right.rejected.text
        }
        suspects = _one(report, "label-noise").examples
        assert sum(one in wrong for one in suspects) >= 8


def test_rows_that_were_dropped_as_contradictory_count() -> None:
    train, held = examples(clean(1))
    report = lint(train, held, rejected={"contradictory": 60, "duplicate": 70})
    found = _one(report, "contradictions")
    assert _found(report) == ["contradictions"]
    # 60 of 760; 30 pairs of verdicts disagree, 70 agree: d = 0.3, (1 - sqrt(0.4)) / 2 = 0.18
    assert "60 of 760" in found.sentence
    assert "18 % wrong labels" in found.sentence


def test_of_what_was_dropped_the_share_counts_that_goes_with_what_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4 of 704 rows contradict; of 70 that are read, as many would be 5 %."""
    train, held = examples(clean(1))
    monkeypatch.setattr(view, "MOST_EXAMPLES", 70)
    report = lint(train, held, rejected={"contradictory": 4})
    assert (report.given, report.read) == (700, 70)
    number = next(n for n in report.numbers if n.check == "contradictions")
    assert (number.value, number.of) == (0, 70)  # 4 · 70 / 700 = 0.4 rows, which is none
    assert "contradictions" not in _found(report)
    report = lint(train, held, rejected={"contradictory": 60, "overruled": 10})
    number = next(n for n in report.numbers if n.check == "contradictions")
    assert number.of == 77


@pytest.mark.parametrize("seed", [1004, 1005, 1011])
def test_words_that_decide_by_and_large_are_not_taken_for_wrong_labels(seed: int) -> None:
    """Worlds in which the model contradicts 7 to 9 % of labels, none of which is wrong."""
    report = lint(*examples(taste_in_words(clean(seed))))
    assert next(n for n in report.numbers if n.check == "label-noise").low > 0.05
    assert _found(report) == ["words"]


def test_another_number_in_an_answer_is_another_answer() -> None:
    """12 over a guess, and that guess over 13: no contradiction, however alike 12 and 13 are."""
    long = "the sum of all the parts that were counted in the end comes to exactly {} as a whole"
    long += ", which is what the books of the whole year say about every single one of the shops "
    long += "that we have ever had in this town and in the next"
    rows = []
    for at, row in enumerate(clean(1)[:60]):
        guess = ["No idea at all about any of this, sorry."]
        rows.append(replace(row, chosen=[long.format(12)], rejected=guess, held=False))
        rows.append(replace(row, chosen=guess, rejected=[long.format(13)], held=at == 0))
    report = lint(*examples(rows))
    number = next(n for n in report.numbers if n.check == "contradictions")
    assert number.value == 0
    same = [
        replace(row, rejected=[long.format(12)]) if at % 2 else row for at, row in enumerate(rows)
    ]
    number = next(n for n in lint(*examples(same)).numbers if n.check == "contradictions")
    assert number.value == 1


def test_warnings_come_before_notes() -> None:
    rows = ROWS["leakage"](ROWS["surface.emoji"](clean(1)))
    found = lint(*examples(rows)).findings
    assert [(one.check, one.severity) for one in found] == [
        ("leakage", "warning"),
        ("surface.emoji", "note"),
    ]


def test_equal_input_gives_an_equal_report() -> None:
    sides = PLANTED["words"](1)
    assert lint(*sides, seed=4) == lint(*sides, seed=4)


def test_a_report_survives_json() -> None:
    report = lint(*PLANTED["leakage"](1))
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_little_or_no_data_breaks_nothing() -> None:
    train, held = examples(clean(1))
    for few in ([], train[:1], train[:9], train[:25]):
        report = lint(few, [])
        assert set(_found(report)) <= {"held-out-size"}
        assert lint(few).findings == ()
    one = lint(train[:30], held[:3])
    assert _found(one) == ["held-out-size"]


def test_demonstrations_and_texts_are_read_too() -> None:
    train, held = examples(clean(1))
    sides = [[e.oriented("demonstration") for e in side] for side in (train, held)]
    assert _found(lint(*sides)) == []
    texts = [[replace(e, prompt=()) for e in side] for side in sides]
    assert _found(lint(*texts)) == []
    again = [[*side, *side[:150]] for side in sides]
    assert _found(lint(*again)) == []


def test_odd_texts_break_nothing() -> None:
    odd = ["", " ", "\U0001f600", "\ud800", "\x00\x1b[31m", "。" * 50, "```", "a" * 100_000]
    pairs = []
    for at, row in enumerate(examples(clean(1))[0][:80]):
        texts = (odd[at % len(odd)], odd[(at // 8 + 1) % len(odd)])
        completions = tuple(Completion((Message("assistant", text),)) for text in texts)
        pairs.append(replace(row, completions=completions))
    prompt = (Message("user", "\x1b[31m\ud800 red"),)
    pairs += [replace(pair, prompt=prompt) for pair in pairs]
    report = lint(pairs, [])
    for finding in report.findings:
        assert finding.sentence.isprintable()
    json.dumps(report.to_dict(), ensure_ascii=False).encode("utf-8", "replace")


def test_more_than_the_cap_is_drawn_whole_prompts_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, held = examples(clean(1))
    twice = [e for pair in zip(train, train, strict=True) for e in pair]
    monkeypatch.setattr(view, "MOST_EXAMPLES", 500)
    monkeypatch.setattr(view, "MOST_CONTESTS", 300)
    report = lint(twice, held)
    assert (report.given, report.contests) == (1300, 300)
    assert 490 <= report.read <= 500
    drawn = view.View(twice, held)
    counts = {e.prompt_key: drawn.train.count(e) for e in drawn.train}
    assert set(counts.values()) == {2}


def test_every_check_is_told_when_it_is_done() -> None:
    done: list[str] = []
    lint(examples(clean(1))[0][:50], progress=done.append)
    assert done == list(CHECKS)


def test_without_scikit_learn_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install"):
        lint(examples(clean(1))[0])


def test_answers_that_call_tools_are_read() -> None:
    call: dict[str, object] = {"function": {"name": "look", "arguments": "{}"}}
    made = [
        Example(
            (Message("user", f"Question {at} about {at * 7}"),),
            (Completion((Message("assistant", "", tool_calls=(call,)),)),),
        )
        for at in range(60)
    ]
    answers = view.View(made, None).answers
    assert all('"look"' in answer.text for answer in answers)
    assert "truncated" not in _found(lint(made))
