"""The parts of an example that filters look at."""

from palate.curate.said import answer_text, asked, compared, learned
from palate.records import Completion, Example, Message, Verdict


def _answer(text, label=None):
    return Completion((Message("assistant", text),), label=label)


ONE, TWO, THREE = _answer("one"), _answer("two"), _answer("three")
PROMPT = (
    Message("system", "You are kind."),
    Message("assistant", "Hello!"),
    Message("user", "Where is it?"),
    Message("assistant", "Which one?"),
    Message("user", "The lamp."),
)


def test_what_the_user_said_in_all_turns():
    assert asked(Example(PROMPT, (ONE,))) == "Where is it?\nThe lamp."
    assert asked(Example(PROMPT[:2], (ONE,))) == "You are kind.\nHello!"
    assert asked(Example((), (ONE,))) == "one"


def test_answers_that_are_compared_and_learned():
    pair = Example(PROMPT, (ONE, TWO, THREE), verdict=Verdict(2, 0))
    assert tuple(compared(pair)) == (THREE, ONE)
    assert tuple(learned(pair)) == (THREE,)
    up, down = _answer("up", True), _answer("down", False)
    labelled = Example(PROMPT, (up, down, ONE))
    assert tuple(compared(labelled)) == (up, down, ONE)
    assert list(learned(labelled)) == [up, ONE]


def test_an_answer_with_its_tool_calls():
    call = {"name": "find", "arguments": {"b": 1, "a": 2}}
    turns = (
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "found"),
        Message("assistant", "Here."),
    )
    assert answer_text(Completion(turns)) == (
        '{"arguments":{"a":2,"b":1},"name":"find"}\nfound\nHere.'
    )
