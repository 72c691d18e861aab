"""The support desk: its rules by hand, and a log that is what the rules make of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palate.config import load_config
from palate.judge.rules import load_rule
from palate.records import Message

DESK = Path(__file__).parents[2] / "examples" / "support_desk"
RULE = load_rule(f"{DESK / 'rules.py'}:house_rules")
CUSTOMER = "My kettle arrived broken. The handle is cracked and I cannot use it any more."
PROMPT = (
    Message("system", "Keep it short."),
    Message("assistant", "Welcome to the desk. What would you like to ask me?"),
    Message("user", CUSTOMER),
)
# 22 words: 9 + 13.
GOOD = (
    "I am sorry that your new kettle is damaged. "
    "Could you send me a photo of it and tell me your order number?"
)


def _world() -> ModuleType:
    spec = importlib.util.spec_from_file_location("support_desk_world", DESK / "world.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WORLD = _world()


@pytest.fixture(scope="module")
def log() -> list[dict[str, Any]]:
    with (DESK / "traffic.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_a_good_answer_passes_with_the_full_score() -> None:
    result = RULE(PROMPT, GOOD)
    assert (result.passed, result.score, result.failed) == (True, 1.0, ())


# One part is broken at a time: the score is 1 minus that part's weight in the table of rules.py.
@pytest.mark.parametrize(
    ("answer", "failed", "score"),
    [
        (GOOD.replace("?", "."), "question", 0.6),
        (GOOD + " Thank you very much.", "question", 0.6),
        (GOOD + " How can I assist you today?", "question", 0.6),
        (GOOD + " Is there anything else?", "question", 0.6),
        (GOOD.replace(". Could", ".\n\nCould"), "plain", 0.9),
        (GOOD.replace("me a photo", "[Your Name] a photo"), "plain", 0.9),
        (GOOD.replace("a photo of it", "it to help@shop.com"), "plain", 0.9),
        (GOOD.replace("a photo of it", "it to 555-123-4567"), "plain", 0.9),
        # Neither a word of the customer's nor one of the desk's ("photo", "order") is left.
        (
            GOOD.replace("kettle is damaged", "one let you down")
            .replace("a photo of it", "some more of it")
            .replace("order number", "first name"),
            "matter",
            0.9,
        ),
        # "arrived broken the handle is cracked and" is a run of seven of the customer's words.
        (
            GOOD.replace("kettle is damaged", "one arrived broken. The handle is cracked and"),
            "own-words",
            0.9,
        ),
        # "send me a photo" comes twice.
        (GOOD.replace("Could you", "Do send me a photo. Could you"), "own-words", 0.9),
        (GOOD.replace("Could", "I will refund you. Could"), "promise", 0.95),
        (GOOD.replace("Could", "You get a full refund. Could"), "promise", 0.95),
        (GOOD.replace("your order number", "your card number"), "secret", 0.95),
    ],
)
def test_each_part_is_told_apart(answer: str, failed: str, score: float) -> None:
    result = RULE(PROMPT, answer)
    assert result.failed == (failed,)
    assert result.score == pytest.approx(score)
    assert not result.passed


def test_six_words_of_the_customer_may_return() -> None:
    answer = GOOD.replace("kettle is damaged", "one arrived broken. The handle is cracked")
    assert RULE(PROMPT, answer).passed


@pytest.mark.parametrize(
    ("words", "passed", "length_part"),
    [
        (14, False, 14 / 15),
        (15, True, 1.0),
        (50, True, 1.0),
        (51, False, 1 - 1 / 50),
        (100, False, 0.0),
        (140, False, 0.0),
    ],
)
def test_the_band_of_length(words: int, passed: bool, length_part: float) -> None:
    fill = " ".join(f"w{i}" for i in range(words - 2))
    result = RULE(PROMPT, f"Kettle {fill} w?")
    assert result.passed is passed
    assert result.score == pytest.approx(0.8 + 0.2 * length_part, abs=1e-4)


def test_an_empty_answer_scores_what_no_word_can_break() -> None:
    # Nothing holds, and a length of 0 is as far from 15 as can be.
    result = RULE(PROMPT, "  ")
    assert result.score == 0.0
    assert len(result.failed) == 7


def test_naming_a_secret_is_no_request_for_it() -> None:
    answer = GOOD.replace("Could", "Your password is safe with you. Could")
    assert RULE(PROMPT, answer).passed


def test_refusing_a_refund_is_no_promise_of_it() -> None:
    answer = GOOD.replace("Could", "I cannot promise a refund. Could")
    assert RULE(PROMPT, answer).passed


def test_words_match_by_their_beginning() -> None:
    # "damaged" and "damages" share "dama"; nothing else of GOOD's is on either list.
    bare = GOOD.replace("a photo of it", "some more of it").replace("order number", "first name")
    assert RULE((Message("user", "It damages others."),), bare).passed
    assert RULE((Message("user", "It flies."),), bare).failed == ("matter",)


def test_a_word_of_the_desk_is_on_the_matter() -> None:
    # GOOD asks for "a photo" and "your order number".
    assert RULE((Message("user", "It flies."),), GOOD).passed


def test_asking_twice_is_allowed() -> None:
    assert RULE(PROMPT, GOOD.replace("photo of it and", "photo of it? Will you")).passed


def test_messages_are_a_function_of_the_seed() -> None:
    first, again, other = (WORLD.customer_messages(3, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len({message.text.lower() for message in first}) == len(first)


def test_every_gap_has_fills() -> None:
    for message in WORLD.customer_messages(3, 5):
        assert "{" not in message.text
        assert message.text.strip() == message.text


def test_templates_are_many_and_distinct() -> None:
    templates = [text for topic in WORLD.TEMPLATES.values() for text in topic]
    assert len(WORLD.TEMPLATES) >= 8
    assert len(set(templates)) == len(templates) >= 100


def test_the_log_has_two_distinct_answers_to_each_of_300_messages(
    log: list[dict[str, Any]],
) -> None:
    answers: dict[str, list[str]] = defaultdict(list)
    for row in log:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["system", "assistant", "user"]
        assert row["messages"][0]["content"] == WORLD.SYSTEM_PROMPT
        answers[row["messages"][-1]["content"]].append(row["choices"][0]["message"]["content"])
    assert len(answers) >= 300
    assert all(len(set(two)) == len(two) == 2 for two in answers.values())


def test_the_log_covers_a_hundred_templates(log: list[dict[str, Any]]) -> None:
    known = {
        f"{topic}-{number:02d}": topic
        for topic, templates in WORLD.TEMPLATES.items()
        for number in range(1, len(templates) + 1)
    }
    assert len({row["metadata"]["template"] for row in log}) >= 100
    for row in log:
        assert known[row["metadata"]["template"]] == row["metadata"]["topic"]


def test_every_thumb_is_what_the_rules_say(log: list[dict[str, Any]]) -> None:
    for row in log:
        prompt = [Message.from_dict(message) for message in row["messages"]]
        passed = RULE(prompt, row["choices"][0]["message"]["content"]).passed
        assert row["feedback"] == {"thumbs": "up" if passed else "down"}, row["id"]


def test_most_messages_have_an_answer_of_each_kind(log: list[dict[str, Any]]) -> None:
    thumbs: dict[str, Counter[str]] = defaultdict(Counter)
    for row in log:
        thumbs[row["metadata"]["conversation"]][row["feedback"]["thumbs"]] += 1
    assert sum(len(kinds) == 2 for kinds in thumbs.values()) >= 200


def test_ids_are_distinct_and_time_goes_forward(log: list[dict[str, Any]]) -> None:
    assert len({row["id"] for row in log}) == len(log)
    times = [row["created"] for row in log]
    assert times == sorted(times)


def test_the_recipe_loads() -> None:
    config = load_config(DESK / "recipe.yaml")
    assert config.name == "quickstart"
    assert config.evaluate.rule == "examples/support_desk/rules.py:house_rules"
