"""Personal data is counted, left out, or replaced by the same name throughout an example."""

import json
import random
import sys
import time
from itertools import pairwise

import pytest

from palate.curate.personal import KINDS, apart, personal_search, search_examples
from palate.curate.recognizers import Found
from palate.records import Completion, Example, Message, Provenance, Verdict


@pytest.fixture(scope="module")
def search():
    return personal_search()


def _pair(line, prompt, chosen, rejected, **more):
    return Example(
        (Message("system", "Write to help@shop.example.org."), Message("user", prompt)),
        tuple(Completion((Message("assistant", text),)) for text in (chosen, rejected)),
        verdict=Verdict(0, 1),
        provenance=(Provenance("log", line),),
        **more,
    )


CLEAN = Example((Message("user", "hello"),), (Completion((Message("assistant", "hi"),)),))


def _run(examples, search, mode):
    rejects = []
    done = search_examples(examples, rejects.append, search, mode)
    return done, rejects


def test_findings_are_ordered_and_apart(search):
    text = "Card 4111 1111 1111 1111, mail a@example.org, host 84.21.7.130, +44 20 7946 0958."
    found = search(text)
    assert [one.kind for one in found] == [
        "CREDIT_CARD",
        "EMAIL_ADDRESS",
        "IP_ADDRESS",
        "PHONE_NUMBER",
    ]
    assert all(one.end <= two.start for one, two in pairwise(found))


def test_the_surer_finding_stays_where_two_overlap(search):
    """A password before an @ looks like the beginning of an address."""
    text = "postgres://anna:hunter2secret@db.example.org/shop"
    (one,) = search(text)
    assert (one.kind, text[one.start : one.end]) == ("SECRET", "hunter2secret")


def test_redaction_is_consistent_inside_an_example(search):
    example = _pair(
        1,
        "I am anna@example.org, my friend is bob@example.org; call +44 20 7946 0958.",
        "Dear ANNA@example.org, I call +442079460958.",
        "Dear bob@example.org, help@shop.example.org answers.",
    )
    done, rejects = _run([example, CLEAN], search, "redact")
    clean, same = done.examples
    assert rejects == []
    assert same == CLEAN
    assert clean.prompt[0].content == "Write to <EMAIL_ADDRESS>."
    assert clean.prompt[1].content == (
        "I am <EMAIL_ADDRESS_2>, my friend is <EMAIL_ADDRESS_3>; call <PHONE_NUMBER>."
    )
    assert clean.chosen.text == "Dear <EMAIL_ADDRESS_2>, I call <PHONE_NUMBER>."
    assert clean.rejected.text == "Dear <EMAIL_ADDRESS_3>, <EMAIL_ADDRESS> answers."
    assert clean.verdict == example.verdict
    assert clean.provenance == example.provenance
    assert done.concerned == 1
    assert done.kinds == {"EMAIL_ADDRESS": 6, "PHONE_NUMBER": 2}


def test_redaction_twice_changes_nothing(search):
    example = _pair(1, "I am anna@example.org", "Dear anna@example.org", "no")
    once = _run([example], search, "redact")[0].examples
    done, _ = _run(once, search, "redact")
    assert done.examples == once
    assert done.concerned == 0


def test_tool_calls_are_redacted_and_stay_json(search):
    arguments = json.dumps({"to": "anna@example.org", "copies": 2, "note": 'say "hi"'})
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    answer = Completion((Message("assistant", "", tool_calls=(call,)),))
    example = Example((Message("user", "mail anna@example.org"),), (answer,))
    (clean,) = _run([example], search, "redact")[0].examples
    (made,) = clean.completions[0].messages[0].tool_calls
    assert json.loads(made["function"]["arguments"]) == {
        "to": "<EMAIL_ADDRESS>",
        "copies": 2,
        "note": 'say "hi"',
    }
    assert made["id"] == "c1"
    untouched = {"function": {"name": "wait", "arguments": '{ "seconds" :5}'}}
    calm = Example(CLEAN.prompt, (Completion((Message("assistant", "", (untouched,)),)),))
    assert _run([calm], search, "redact")[0].examples == [calm]


def test_report_counts_and_changes_nothing(search):
    example = _pair(1, "I am anna@example.org", "ok", "no")
    done, rejects = _run([example, CLEAN], search, "report")
    assert done.examples == [example, CLEAN]
    assert rejects == []
    assert (done.concerned, dict(done.kinds)) == (1, {"EMAIL_ADDRESS": 2})


def test_drop_leaves_out_and_the_reject_is_clean(search):
    example = _pair(3, "I am anna@example.org, 84.21.7.130", "ok", "no")
    done, (found,) = _run([CLEAN, example], search, "drop")
    assert done.examples == [CLEAN]
    assert (found.line, found.reason) == (3, "personal-data")
    assert found.detail == "it holds 2 EMAIL_ADDRESS, 1 IP_ADDRESS"
    assert found.excerpt == "I am <EMAIL_ADDRESS>, <IP_ADDRESS>"
    assert found.example_id == example.id


def test_half_an_address_at_the_end_of_an_excerpt_goes(search):
    words = "word " * 37  # 185 characters, so that the excerpt ends inside the address
    example = _pair(3, f"{words}anna.lindqvist@example.org", "ok", "no")
    (found,) = _run([example], search, "drop")[1]
    assert found.excerpt.startswith("word word")
    assert "anna" not in found.excerpt


def test_only_the_kinds_that_are_wanted():
    text = "a@example.org, 84.21.7.130, https://example.org/page, 10/23/1951"
    assert [one.kind for one in personal_search(["IP_ADDRESS"])(text)] == ["IP_ADDRESS"]
    assert {one.kind for one in personal_search(["URL", "DATE_TIME"])(text)} == {"URL", "DATE_TIME"}
    assert {one.kind for one in personal_search()(text)} == {"EMAIL_ADDRESS", "IP_ADDRESS"}


def test_an_unknown_kind_is_said():
    with pytest.raises(ValueError, match="unknown kind 'EMAIL'; did you mean 'EMAIL_ADDRESS'"):
        personal_search(["EMAIL"])


@pytest.mark.parametrize("missing", ["presidio_analyzer", "phonenumbers", "detect_secrets"])
def test_without_a_package_the_cure_is_said(monkeypatch, missing):
    for name in [n for n in sys.modules if n == missing or n.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r'pip install "palate\[data\]"') as caught:
        personal_search(KINDS)
    assert "\n" not in str(caught.value)


def test_of_what_overlaps_the_surest_and_then_the_longest_stays():
    """Against the rule written out: a finding is taken unless it overlaps one that is taken."""
    rng = random.Random(0)
    for _ in range(200):
        starts = [rng.randrange(60) for _ in range(30)]
        found = [Found(at, at + rng.randint(1, 9), "A", rng.choice([0.5, 1.0])) for at in starts]
        taken = []
        for one in sorted(found, key=lambda f: (-f.score, f.start - f.end, f.start, f.kind)):
            if not set(range(*one[:2])) & {at for two in taken for at in range(*two[:2])}:
                taken.append(one)
        assert apart(found) == sorted(taken)


def test_many_findings_in_one_text_take_no_longer_each():
    """With every finding compared to every other, these would take minutes."""
    found = [Found(10 * at, 10 * at + 5, "A", 1.0) for at in range(40_000)]
    begun = time.process_time()
    assert apart(found) == found
    assert time.process_time() - begun < 10
