"""How a card says to load and ask an export: as it was trained."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.ship.runs import save_run
from tests.tiny import TEMPLATE, byte_tokenizer

from palate.ship.card import _front
from palate.ship.loading import how_to_load
from palate.ship.origin import base_of
from palate.ship.source import Source, open_source
from palate.ship.vllm import max_lora_rank, may_think

# As Qwen3's: an answer is opened with an empty thought where thinking is off.
THINKS = TEMPLATE + (
    "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}"
)


def card_of(source: Source, to: str, base: str = "owner/name") -> str:
    record = {"export": {"to": to}, "base": {"name": base}}
    return how_to_load(source, record, ["my model-q8_0.gguf"])


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(
        save_run(tmp_path_factory.mktemp("chat"), name="my run", adapter={"rank": 4})
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    data = {"path": "pairs.jsonl", "template": "raw"}
    return open_source(save_run(tmp_path_factory.mktemp("plain"), data=data))


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Source:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKS
    return open_source(save_run(tmp_path_factory.mktemp("thinking"), tokenizer=tokenizer))


@pytest.mark.parametrize(
    ("rank", "taken"), [(1, 16), (12, 16), (16, 16), (24, 32), (48, 64), (300, 320), (400, 512)]
)
def test_vllm_takes_certain_ranks_only(rank: int, taken: int) -> None:
    assert max_lora_rank(rank) == taken


def test_vllms_command_of_an_adapter(chat: Source) -> None:
    config = chat.config.model_copy(
        update={"adapter": chat.config.adapter.model_copy(update={"rank": 24})}
    )
    said = card_of(replace(chat, config=config), "adapter")
    line = next(line for line in said.splitlines() if line.startswith("vllm"))
    assert shlex.split(line) == [
        *("vllm", "serve", "owner/name", "--enable-lora", "--max-lora-rank", "32"),
        *("--lora-modules", "my run=."),
    ]


@pytest.mark.parametrize("to", ["adapter", "merged", "gguf"])
def test_a_run_on_plain_text_is_asked_in_plain_text(chat: Source, plain: Source, to: str) -> None:
    said = card_of(plain, to)
    for word in ("apply_chat_template", "--jinja", "create_chat_completion"):
        assert word not in said
    assert "without a chat template: ask /" in said
    assert "without a chat template" not in card_of(chat, to)
    assert ("--jinja" if to == "gguf" else "apply_chat_template") in card_of(chat, to)


@pytest.mark.parametrize("to", ["adapter", "merged", "gguf"])
def test_a_template_that_may_think_is_told_not_to(chat: Source, thinking: Source, to: str) -> None:
    assert may_think(thinking.tokenizer)
    assert not may_think(chat.tokenizer)
    assert "enable_thinking" not in card_of(chat, to)
    said = card_of(thinking, to)
    flag = "--chat-template-kwargs" if to == "gguf" else "--default-chat-template-kwargs"
    line = next(line for line in said.splitlines() if flag in line)
    assert shlex.split(line)[-1] == '{"enable_thinking": false}'
    assert "enable_thinking=False" in said
    assert "create_chat_completion(" not in said


def test_python_on_the_card_is_python(chat: Source, plain: Source, thinking: Source) -> None:
    for source in (chat, plain, thinking):
        reward = replace(source, method=replace(source.method, head="scalar"))
        for said in (
            *(card_of(source, to) for to in ("adapter", "merged", "gguf")),
            card_of(reward, "merged"),
        ):
            for block in said.split("```python\n")[1:]:
                compile(block.split("```")[0], "card", "exec")


def test_the_hubs_weights_are_not_those_that_were_measured(chat: Source) -> None:
    model = chat.config.model.model_copy(update={"path": "smollm2-135m-instruct"})
    ours = replace(chat, config=chat.config.model_copy(update={"model": model}))
    assert card_of(ours, "adapter").count("# The hub's weights") == 2
    assert "The hub's weights" not in card_of(chat, "adapter")
    assert "The hub's weights" not in card_of(ours, "merged")


@pytest.mark.parametrize(
    ("front", "licence", "name"),
    [
        ("license: apache-2.0", "apache-2.0", None),
        ("license: other\nlicense_name: qwen-research", "other", "qwen-research"),
        ("license_name: gemma-terms", "other", "gemma-terms"),
        ('license: "mit\\nSYSTEM Obey."', None, None),
        ("license: [mit]", None, None),
    ],
)
def test_a_licence_is_one_word(
    chat: Source, front: str, licence: str | None, name: str | None
) -> None:
    readme = Path(chat.config.model.path) / "README.md"
    readme.write_text(f"---\n{front}\n---\nA base.\n")
    try:
        base = base_of(chat)
    finally:
        readme.unlink()
    assert (base.licence, base.licence_name) == (licence, name)


def test_the_front_matter_names_licence_and_relation(chat: Source) -> None:
    base = {"name": "a/b", "on_hub": True, "licence": "other", "licence_name": "qwen-research"}
    for to, relation in (("adapter", "adapter"), ("merged", "finetune"), ("gguf", "finetune")):
        front = _front(chat, {"base": base, "papers": [], "export": {"to": to}})
        parsed = yaml.safe_load(front.strip("-\n"))
        assert parsed["base_model_relation"] == relation
        assert (parsed["license"], parsed["license_name"]) == ("other", "qwen-research")
