"""Tools through the template, and calls in a model's answer, as the official client sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Served
from tests.tiny import TEMPLATE, byte_tokenizer, tiny_model

from palate.serve import job as jobs
from palate.serve.settings import Entry
from palate.serve.text import TokenLogp

TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
]
HERMES = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "Answer with <tool_call> to call.{% endif %}" + TEMPLATE
)
SAID = 'I look: <tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'


@pytest.fixture(scope="module")
def hermes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template knows tools."""
    folder = tmp_path_factory.mktemp("hermes") / "tiny"
    tiny_model().save_pretrained(folder)
    byte_tokenizer(HERMES).save_pretrained(folder)
    return folder


def test_tools_reach_the_prompt(hermes: Path) -> None:
    with Served([Entry("tiny", str(hermes))]) as served:
        plain = served.say(max_tokens=1).usage.prompt_tokens
        with_tools = served.say(max_tokens=1, tools=TOOLS).usage.prompt_tokens
        assert with_tools > plain + 50
        assert (
            served.say(max_tokens=1, tools=TOOLS, tool_choice="none").usage.prompt_tokens == plain
        )


def test_a_call_is_parsed_whole_and_in_a_stream(
    hermes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random model's tokens are replaced by those of a call, as they are taken."""
    ids = [*byte_tokenizer()(SAID, add_special_tokens=False)["input_ids"], 258]
    take = jobs.Choice.take

    def told(self: Any) -> Any:
        self.fresh = TokenLogp(ids[self.count], 0.0)
        return take(self)

    monkeypatch.setattr(jobs.Choice, "take", told)
    with Served([Entry("tiny", str(hermes))], max_tokens=200) as served:
        choice = served.say(tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "I look: "
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name) == ("function", "weather")
        assert call.function.arguments == '{"city": "Bern"}'
        chunks = [chunk.choices[0] for chunk in served.say(tools=TOOLS, stream=True)]
        assert "".join(c.delta.content or "" for c in chunks) == "I look: "
        calls = [call for c in chunks for call in c.delta.tool_calls or ()]
        assert [(c.index, c.function.name) for c in calls] == [(0, "weather")]
        assert chunks[-1].finish_reason == "tool_calls"
        plain = served.say().choices[0]  # no tools were offered: it is text
        assert (plain.message.content, plain.finish_reason) == (SAID, "stop")
        assert plain.message.tool_calls is None


def test_a_conversation_with_calls_and_results_is_read(hermes: Path) -> None:
    turns: Any = [
        {"role": "user", "content": "Weather in Bern?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    with Served([Entry("tiny", str(hermes))]) as served:
        from openai import BadRequestError

        # This template writes results and leaves calls out, which is refused by name.
        with pytest.raises(BadRequestError, match="leaves calls out"):
            served.say(messages=turns, tools=TOOLS)
        assert served.say(messages=[turns[0], turns[2]], max_tokens=1).choices
