"""The parts of single checks, each with data made for it by hand."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from tests.curate.lint.faults import near_duplicates
from tests.curate.lint.worlds import Row, World, clean, examples, marked, thumbs

from palate.curate.lint import Finding, Number, lint
from palate.curate.lint.authors import _expected
from palate.curate.lint.diversity import _alike, _vendi
from palate.curate.lint.features import FEATURES, openings_of
from palate.curate.lint.findings import listed, shown_text
from palate.curate.lint.length import _nearest
from palate.curate.lint.near_identical import _near
from palate.curate.lint.shares import win_rate
from palate.curate.lint.surface import check as surface
from palate.curate.lint.templates import check as templates
from palate.curate.lint.text import count_words, key, words
from palate.curate.lint.truncated import is_cut
from palate.curate.lint.view import Answer, Contests, View
from palate.records import Completion, Message

PATTERNS = {feature.name: feature.pattern for feature in FEATURES}


@pytest.mark.parametrize(
    ("name", "text", "there"),
    [
        ("headings", "Well\n## Title", True),
        ("headings", "#tag and C# code", False),
        ("bullets", "so:\n  - one", True),
        ("bullets", "2 - 1 is 1", False),
        ("bullets", "**bold** start", False),
        ("numbered", "1. one\n2. two", True),
        ("numbered", "in 2024. Then", False),
        ("bold", "a **word** here", True),
        ("bold", "2 ** 3 ** 4\n** x", True),
        ("bold", "2 ** 3", False),
        ("code", "so\n```python\nx\n```", True),
        ("code", "`x`", False),
        ("table", "| a | b |\n|---|---|", True),
        ("table", "a | b", False),
        ("paragraphs", "one\n\ntwo", True),
        ("paragraphs", "one\ntwo\n\n", False),
        ("emoji", "fine \U0001f600", True),
        ("emoji", "naïve — “quoted” …", False),
        ("question", "And you?", True),
        ("question", "And you?**\n", True),
        ("question", "Really? Yes.", False),
        ("digits", "it takes 3 days", True),
        ("digits", "1. one\n2. two", False),
        ("digits", "1. one of 4 things", True),
        ("link", "see https://example.org", True),
        ("apology", "I'm sorry about that", True),
        ("apology", "We apologise.", True),
        ("apology", "a sorryless text", False),
        ("refusal", "I cannot help with that", True),
        ("refusal", "I\u2019m unable to provide this", True),
        ("refusal", "As an AI language model, sure", True),
        ("refusal", "I can't believe it, what a day", False),
        ("refusal", "you cannot open it", False),
    ],
)
def test_a_feature_is_seen_where_it_is(name: str, text: str, there: bool) -> None:
    assert (PATTERNS[name].search(text) is not None) is there


def test_words_keep_their_contractions_and_count_characters_where_no_space_is_written() -> None:
    assert words("Don't stop, it’s e-mail_no 5!") == [
        "don't",
        "stop",
        "it’s",
        "e",
        "mail",
        "no",
        "5",
    ]
    assert words("東京は big city") == ["東", "京", "は", "big", "city"]
    assert count_words("東京は big city") == 5
    assert count_words("… !") == 0
    assert key("Yes, indeed.") == key("yes indeed")
    assert key("yes") != key("no")
    assert key("!") != key("?")


def test_openings_are_nested() -> None:
    assert openings_of("Sure! Here's the plan.") == ("sure", "sure here's", "sure here's the")
    assert openings_of("Yes") == ("yes",)
    assert openings_of("") == ()


def _contests(
    winners: list[float], losers: list[float], folds: list[int]
) -> tuple[Contests, object]:
    lengths = np.array([*winners, *losers])
    n = len(winners)
    return (
        Contests(np.arange(n), np.arange(n, 2 * n), np.arange(n), np.array(folds)),
        lengths,
    )


def test_a_target_length_is_chosen_on_the_other_folds() -> None:
    # In fold 0 short answers win, 30 times; in the other four long ones, 5 times each. What is
    # asked in fold 0 was learned from the others, and in each of those mostly from fold 0.
    winners = [10.0] * 30 + [100.0] * 20
    losers = [100.0] * 30 + [10.0] * 20
    contests, lengths = _contests(winners, losers, [0] * 30 + [1 + at % 4 for at in range(20)])
    hits, target = _nearest(lengths, contests)  # type: ignore[arg-type]
    assert hits.tolist() == [0.0] * 50
    assert target < 31  # below the geometric middle of 10 and 100


def test_writers_who_never_met_before_decide_nothing() -> None:
    duels = [("a", "b"), ("a", "c"), ("b", "c")]
    assert _expected(duels, np.array([0, 1, 2])).tolist() == [0.5, 0.5, 0.5]
    # a beat b twice elsewhere, and loses here.
    again = [("a", "b"), ("a", "b"), ("b", "a")]
    assert _expected(again, np.array([0, 1, 2])).tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("text", "reason", "cut"),
    [
        ("Fine.", "stop", False),
        ("Fine", "length", True),
        ("Fine", None, False),
        ("word " * 60 + "and then", None, True),
        ("word " * 60 + "and then,", None, True),
        ("word " * 60 + "and then.", None, False),
        ("word " * 60 + "and then”", None, False),
        ("word " * 60 + "\n- a last item of the long list", None, False),
        ("word " * 60 + "\nYours, Ann", None, False),
        ("Look:\n```\nx = 1", None, True),
        ("Look:\n```\nx = 1\n```", None, False),
    ],
)
def test_answers_that_stop_in_the_middle(text: str, reason: str | None, cut: bool) -> None:
    completion = Completion((Message("assistant", text),), finish_reason=reason)
    assert is_cut(Answer(0, text, count_words(text), 1, completion)) is cut


def test_a_tool_call_is_no_cut() -> None:
    call = Message("assistant", "word " * 60 + "calling it", ({"name": "f"},))
    completion = Completion((call,))
    assert not is_cut(Answer(0, call.content, 62, 1, completion))


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("a b c d e f g h i j", "a b c d e f g h i j", True),
        ("a b c d e f g h i j", "a b c d e f g h i X", True),  # 2 · 9 / 20 = 0.9
        ("a b c d e f g h i j", "a b c d e f g h X Y", False),
        ("a b c d e f g h i j", "j i h g f e d c b a", False),  # the same words in another order
        ("a b", "a b c d e f g", False),
        ("!", "!", True),
        ("!", "?", False),
    ],
)
def test_nearly_the_same(one: str, other: str, near: bool) -> None:
    assert _near(one, other) is near


def _template(row: Row) -> Row:
    return replace(row, chosen=["One answer to all of these questions."])


def test_one_answer_to_one_prompt_put_in_many_ways_is_no_template() -> None:
    rows = list(clean(1)[:200])
    alike = [_template(replace(row, prompt=rows[0].prompt)) for row in rows[:30]]
    unlike = [_template(row) for row in rows[:30]]
    for first, found in ((alike, 0), (unlike, 1)):
        seen = list(templates(View(*examples([*first, *rows[30:]]))))
        assert sum(isinstance(one, Finding) for one in seen) == found
    short = [replace(row, chosen=["Yes, it is."]) for row in rows[:30]]
    seen = list(templates(View(*examples([*short, *rows[30:]]))))
    assert not any(isinstance(one, Finding) for one in seen)


def test_features_are_measured_as_a_family() -> None:
    view = View(*examples(clean(1)))
    numbers = [one for one in surface(view) if isinstance(one, Number)]
    assert len(numbers) > 8
    at = [feature.name for feature in FEATURES].index("bullets")
    rows = np.column_stack([view.form.features[:, at], view.form.lengths[:, :2]])
    alone = win_rate("c", "n", rows, view.contests.groups)
    together = next(one for one in numbers if one.check == "surface.bullets")
    assert together.value == pytest.approx(alone.value)
    # Bonferroni: z grows from 1.96 to that of 1 − 0.05/(2 m), at least 2.73 for m = 8.
    assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_rare_features_are_not_looked_at() -> None:
    plain = [row for row in clean(1) if "http" not in "".join([*row.chosen, *row.rejected])]
    few = marked(plain[:300], lambda lines, _: [*lines, "https://example.org/x."], 1.0, 0.04)
    numbers = list(surface(View(*examples(few))))
    assert "surface.link" not in {one.check for one in numbers if isinstance(one, Number)}


def test_near_duplicates_lie_in_one_fold() -> None:
    view = View(*examples(near_duplicates(clean(1))))
    folds = {}
    for cluster, fold in zip(view.clusters.tolist(), view.folds.tolist(), strict=True):
        assert folds.setdefault(cluster, fold) == fold
    assert set(folds.values()) == {0, 1, 2, 3, 4}
    assert len(folds) < len(view.examples) - 100


def test_matched_answers_come_from_one_fold_and_each_is_used_once() -> None:
    view = View(*thumbs(clean(1)))
    contests = view.contests
    assert len(contests) > 300
    sides = [view.folds[view.where(side)].tolist() for side in (contests.winners, contests.losers)]
    assert sides[0] == sides[1] == contests.folds.tolist()
    assert {view.answers[at].rank for at in contests.winners} == {1}
    assert {view.answers[at].rank for at in contests.losers} == {-1}
    used = [*contests.winners.tolist(), *contests.losers.tolist()]
    assert len(set(used)) == len(used)


def test_too_few_prompts_for_folds_give_no_contest() -> None:
    view = View(*examples(clean(1)[:9]))
    assert len(view.contests) == 0
    assert lint(view.examples).contests == 0


def test_the_chance_that_two_are_alike() -> None:
    # Counts 3, 1, 1 of 5: Σ n(n − 1) = 6 of 20. Without one of the three: 2 of 12, three times;
    # without a single: 6 of 12, twice. Their mean is 0.3, the jackknife variance
    # 4/5 · (3 · (1/6 − 0.3)² + 2 · (0.5 − 0.3)²) = 0.106667.
    number = _alike(np.array([3.0, 1.0, 1.0]))
    assert number.value == pytest.approx(0.3)
    assert number.high == pytest.approx(0.3 + 1.96 * 0.106667**0.5, abs=1e-4)
    assert (number.low, number.of) == (0.0, 5)


def test_the_effective_number_of_prompts() -> None:
    assert _vendi(["red fox", "blue sky", "old tree"]) == pytest.approx(3)
    assert _vendi(["red fox", "Red fox!", "red fox"]) == pytest.approx(1)
    # Two pairs of equals: two values of one half.
    assert _vendi(["red", "red", "sky", "sky"]) == pytest.approx(2)
    assert _vendi(["!", "?"]) == 1.0
    # Ten of a template share four words of five: cosines of 0.8, so one value of 0.82 and nine of
    # 0.02, and exp(−0.82 ln 0.82 − 9 · 0.02 ln 0.02) = 2.380.
    template = [f"write one poem about {World(1).words[at]}" for at in range(10)]
    assert _vendi(template) == pytest.approx(2.380, abs=1e-3)


def test_lists_and_texts_for_people() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c"], 2) == "a and b"
    assert shown_text("a\n b\x1b[31m\ud800") == "a b\ufffd[31m\ufffd"
    assert shown_text("x" * 80) == "x" * 59 + "…"


def test_a_world_is_what_it_says() -> None:
    """The clean world itself: lengths around 80 words, no two prompts alike, marks by chance."""
    rows = clean(1)
    assert len({row.prompt for row in rows}) == 700
    assert len(World(1).words) > 3000
    share = np.mean([any("**" in line for line in row.chosen) for row in rows])
    assert 0.15 < share < 0.25


def test_a_pair_of_very_long_answers_is_compared_in_time() -> None:
    """20,000 words took minutes."""
    rng = random.Random(0)
    said = rng.choices([f"w{i}" for i in range(3000)], [1 / (i + 5) for i in range(3000)], k=20_000)
    one = [word if at % 25 else "changed" for at, word in enumerate(said)]  # 96 % are as before
    other = [word if at % 4 else "changed" for at, word in enumerate(said)]
    begun = time.process_time()
    assert _near(" ".join(said), " ".join(one))
    assert not _near(" ".join(said), " ".join(other))
    assert time.process_time() - begun < 10


def test_a_completion_without_messages_is_not_cut_off() -> None:
    assert not is_cut(Answer(0, "", 0, 1, Completion((), label=True)))
