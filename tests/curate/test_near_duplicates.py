"""Near-duplicate examples are dropped once, by a rule that the order of rows cannot change."""

import random

from palate.curate import near_duplicates
from palate.curate.near_duplicates import drop_near_duplicates, prompt_groups
from palate.records import Completion, Example, Message, Provenance, Verdict

WORDS = [f"word{i}" for i in range(2000)]


def _said(rng, count=40):
    return " ".join(rng.choices(WORDS, k=count))


def _answer(text, label=None):
    return Completion((Message("assistant", text),), label=label)


def _pair(line, prompt, chosen, rejected, rows=1):
    return Example(
        (Message("system", "You are kind."), Message("user", prompt)),
        (_answer(chosen), _answer(rejected)),
        verdict=Verdict(0, 1),
        provenance=tuple(Provenance("log", line + 100 * i) for i in range(rows)),
    )


def _run(examples, similarity=0.8):
    rejects = []
    kept = drop_near_duplicates(examples, rejects.append, similarity)
    return kept, rejects


def _edited(text):
    """One word more at the end: one of 38 shingles is new, J = 38/39."""
    return f"{text} indeed"


def test_the_one_that_most_rows_vouch_for_stays():
    rng = random.Random(0)
    prompt, chosen, rejected = _said(rng), _said(rng), _said(rng)
    first = _pair(1, prompt, chosen, rejected)
    vouched = _pair(2, _edited(prompt), chosen, _edited(rejected), rows=2)
    other = _pair(3, _said(rng), _said(rng), _said(rng))
    kept, rejects = _run([first, other, vouched])
    assert kept == [other, vouched]
    (found,) = rejects
    assert (found.line, found.reason) == (1, "near-duplicate")
    assert found.detail == f"like {vouched.id} at log:2, which stays"


def test_what_stays_does_not_depend_on_the_order():
    rng = random.Random(1)
    examples = []
    for number in range(12):
        parts = [_said(rng) for _ in range(3)]
        for copy in range(4):
            again = [f"{part} {'more ' * copy}" for part in parts]
            examples.append(_pair(10 * number + copy, *again))
    expected = {example.id for example in _run(examples)[0]}
    assert len(expected) == 12
    for seed in range(3):
        random.Random(seed).shuffle(examples)
        kept, rejects = _run(examples)
        assert {example.id for example in kept} == expected
        assert len(kept) + len(rejects) == 48
        assert [e for e in examples if e.id in expected] == kept


def test_an_answer_of_its_own_makes_an_example_of_its_own():
    """Most of the words are shared, but one part is not: nothing is dropped."""
    rng = random.Random(2)
    prompt, chosen, rejected = _said(rng, 200), _said(rng), "No."
    rows = [
        _pair(1, prompt, chosen, rejected),
        _pair(2, prompt, chosen, "Never."),
        _pair(3, prompt, _said(rng), rejected),
        _pair(4, _said(rng), chosen, rejected),
        _pair(5, prompt, rejected, chosen),  # the contrary
    ]
    assert _run(rows) == (rows, [])


def test_later_turns_of_a_conversation_stay():
    rng = random.Random(3)
    history = [_said(rng, 300)]
    rows = []
    for line in range(4):
        rows.append(_pair(line, "\n".join(history), _said(rng), _said(rng)))
        history.append("and then?")
    assert _run(rows) == (rows, [])


def test_thumbs_must_be_equal():
    rng = random.Random(4)
    prompt, answer = (Message("user", _said(rng)),), _said(rng)
    up, down = (Example(prompt, (_answer(answer, label),)) for label in (True, False))
    again = Example(prompt, (_answer(_edited(answer), True),))
    kept, rejects = _run([up, down, again])
    assert len(kept) == 2
    assert down in kept
    assert [r.reason for r in rejects] == ["near-duplicate"]


def test_examples_with_other_numbers_of_answers_are_not_compared():
    prompt = (Message("user", "a b c d e f g h"),)
    rows = [Example(prompt, tuple(_answer(f"a{i}") for i in range(n))) for n in (1, 2, 3)]
    assert _run(rows) == (rows, [])


def test_texts_and_tool_calls():
    rng = random.Random(5)
    text = _said(rng)
    rows = [Example((), (_answer(one),)) for one in (text, text.upper(), _said(rng))]
    assert len(_run(rows)[0]) == 2
    prompt = (Message("user", "find it for me please"),)
    calls = [
        Example(prompt, (Completion((Message("assistant", "", tool_calls=({"id": word},)),)),))
        for word in ("one", "two")
    ]
    assert _run(calls) == (calls, [])


def test_prompts_that_are_near_duplicates_share_a_name():
    rng = random.Random(6)
    asked, other = _said(rng), _said(rng)
    rows = [
        _pair(1, asked, "a", "b"),
        _pair(2, other, "a", "b"),
        _pair(3, _edited(asked), "c", "d"),
        _pair(4, asked, "e", "f"),
    ]
    names = prompt_groups(rows)
    assert names[0] == names[2] == names[3]
    assert names[1] == rows[1].prompt_key
    assert names[0] == min(rows[0].prompt_key, rows[2].prompt_key)
    assert prompt_groups(rows[::-1]) == names[::-1]


def test_a_shared_system_prompt_and_greeting_make_no_cluster():
    rng = random.Random(7)
    frame = (Message("system", _said(rng, 200)), Message("assistant", _said(rng, 50)))
    rows = [Example((*frame, Message("user", _said(rng, 12))), (_answer("x"),)) for _ in range(20)]
    assert prompt_groups(rows) == [row.prompt_key for row in rows]


def test_prompts_of_one_template_are_told_apart_by_what_is_in_it():
    rng = random.Random(8)
    frame = _said(rng, 100)
    rows = [
        Example((Message("user", f"{frame} {_said(rng, 12)}"),), (_answer("Yes."),))
        for _ in range(40)
    ]
    assert prompt_groups(rows) == [row.prompt_key for row in rows]
    assert _run(rows) == (rows, [])
    # A copy with one word more is found all the same.
    again = Example((Message("user", _edited(rows[0].prompt[0].content)),), (_answer("Yes."),))
    names = prompt_groups([*rows, again])
    assert names[0] == names[-1]
    assert len(set(names)) == 40
    assert len(_run([*rows, again])[0]) == 40


def test_pairs_are_compared_whichever_rule_made_them():
    """A pair out of thumbs keeps these on its answers; what it says is its verdict."""
    rng = random.Random(3)
    pair = _pair(1, _said(rng), _said(rng), _said(rng))
    thumbs = Example(
        pair.prompt,
        (_answer(_edited(pair.chosen.text), True), _answer(pair.rejected.text, False)),
        verdict=Verdict(0, 1, "thumbs"),
        provenance=(Provenance("log", 2),),
    )
    kept, rejects = _run([pair, thumbs])
    assert len(kept) == 1
    assert [r.reason for r in rejects] == ["near-duplicate"]


def test_the_frame_is_looked_for_in_so_many_letters_only(monkeypatch):
    read = []
    monkeypatch.setattr(near_duplicates, "_FRAME_LETTERS", 100)
    monkeypatch.setattr(
        near_duplicates, "common_shingles", lambda texts, *_: read.append(texts) or frozenset()
    )
    rows = [_pair(at, f"{at:08} number", "a", "b") for at in range(20)]  # 15 letters
    prompt_groups(rows)
    prompt_groups([_pair(1, "word " * 100, "a", "b")])
    assert list(map(len, read)) == [6, 1]
