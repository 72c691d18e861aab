"""Ollama's TEMPLATE against the chat templates that it stands for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.ship.go_template import as_ollama, execute
from tests.ship.vocabularies import CHATML, byte_level, sentencepiece
from tests.tiny import TEMPLATE, byte_tokenizer

from palate.ship.modelfile import modelfile, recognise

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ '<s>' }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ '<s>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}"
    "\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TALK = [("user", "Hi"), ("assistant", "Hello!"), ("user", "Who\nare you?")]
TALKS = [
    [("user", "Hi")],
    TALK,
    [("system", "Be kind."), *TALK],
    [*TALK, ("assistant", "I."), ("user", "?")],
]


def rendered(tokenizer: Any, turns: list[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": text} for role, text in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize(
    ("template", "name", "joins"),
    [
        (CHATML, "ChatML", False),
        (SMOLLM, "ChatML", False),
        (LLAMA3, "Llama 3", False),
        (GEMMA, "Gemma", True),
        (PHI3, "Phi-3 or Zephyr", False),
        (MISTRAL, "Mistral", True),
        (TEMPLATE, "its own", False),
    ],
)
@pytest.mark.parametrize("turns", TALKS, ids=["one", "talk", "system", "long"])
def test_ollama_renders_what_the_chat_template_does(
    template: str, name: str, joins: bool, turns: list[tuple[str, str]]
) -> None:
    tokenizer = sentencepiece(template)
    found = recognise(tokenizer, bos_added=False, system_joins=joins)
    assert found is not None
    assert found.name == name
    ours = list(turns)
    if joins and ours[0][0] == "system":  # as `palate.tokens.render` joins it
        ours = [("user", f"{ours[0][1]}\n\n{ours[1][1]}"), *ours[2:]]
    assert as_ollama(found.go_template(), turns) == rendered(tokenizer, ours)


def test_what_the_runtime_puts_itself_is_left_out() -> None:
    """llama.cpp begins a text with <s> where the file says so; one is enough."""
    tokenizer = sentencepiece(LLAMA3)
    found = recognise(tokenizer, bos_added=True, system_joins=False)
    assert found is not None
    for turns in TALKS:
        assert "<s>" + as_ollama(found.go_template(), turns) == rendered(tokenizer, turns)


def test_a_turns_mark_that_is_also_the_beginning_of_text_stays_whole() -> None:
    """SmolLM2's tokenizer calls <|im_start|> its beginning-of-text token, and puts none."""
    tokenizer = byte_level(template=SMOLLM)
    tokenizer.bos_token = "<|im_start|>"
    found = recognise(tokenizer, bos_added=False, system_joins=False)
    assert found is not None
    assert found.begin == ""
    assert found.system == ("<|im_start|>system\n", "<|im_end|>\n")
    assert found.default.startswith("<|im_start|>system\nYou are a helpful")


@pytest.mark.parametrize(
    "template",
    [
        # The last user turn is told to be brief: no piece around its contents says so.
        CHATML.replace(
            "{{ m['content'] }}",
            "{% if loop.last and m['role'] == 'user' %}Briefly: {% endif %}{{ m['content'] }}",
        ),
        CHATML.replace("{{ m['content'] }}", "{{ m['content'] | upper }}"),
        "{% for m in messages %}{{ m['content'] }}{{ '{{ x }}' }}{% endfor %}",
        "{{ raise_exception('never') }}",
    ],
    ids=["last turn", "changed words", "Go's own marks", "raises"],
)
def test_what_is_not_made_of_turns_is_not_recognised(template: str) -> None:
    assert recognise(byte_level(template=template), bos_added=False, system_joins=False) is None


def test_the_whole_modelfile() -> None:
    """ChatML, piece by piece."""
    found = recognise(byte_level(), bos_added=False, system_joins=False)
    turn = '{{ if eq $m.Role "%s" }}<|im_start|>%s\n{{ $m.Content }}<|im_end|>\n{{ end }}'
    turns = "".join(turn % (role, role) for role in ("system", "user", "assistant"))
    loop = "{{ range $i, $m := .Messages }}" + turns + "{{ end }}<|im_start|>assistant\n"
    said = modelfile(
        "x.gguf", found, system='Say "hi".', stops=["<|im_end|>"], licence="apache-2.0"
    )
    assert said == (
        f'FROM ./x.gguf\nTEMPLATE """{loop}"""\n'
        'SYSTEM """Say "hi"."""\n'
        'PARAMETER stop "<|im_end|>"\nLICENSE "apache-2.0"\n'
    )
    without = modelfile("x.gguf", None, system=None, stops=[], licence=None)
    assert without.startswith("FROM ./x.gguf\n# No TEMPLATE")
    assert 'TEMPLATE "' not in without


@pytest.mark.parametrize("system", ['Say """hi""".', '"Hi" is what to say.', 'Say "hi"'])
def test_a_prompt_that_no_modelfile_can_hold_is_left_out_and_that_is_said(system: str) -> None:
    said = modelfile("x.gguf", None, system=system, stops=[], licence=None)
    assert not [line for line in said.splitlines() if line.startswith("SYSTEM")]
    assert said.count("# No SYSTEM") == 1
    assert "'" not in said.split("No SYSTEM")[1]


def test_a_model_of_plain_text_gets_the_prompt_as_it_is() -> None:
    said = modelfile("x.gguf", None, plain=True, system="Be kind.", stops=[], licence=None)
    template = said.split('TEMPLATE """')[1].split('"""')[0]
    assert execute(template, {"System": "Be kind.", "Prompt": "Hi"}) == "Be kind.\n\nHi"
    assert execute(template, {"System": "", "Prompt": "Hi"}) == "Hi"


def test_the_evaluator_of_go_templates() -> None:
    """By Go's rules, so that a wrong evaluator does not make a wrong template look right."""
    data = {"A": "x", "L": [{"R": "u"}, {"R": "v"}], "E": ""}
    assert execute("a{{ .A }}b", data) == "axb"
    assert execute("{{ if .E }}no{{ end }}{{ if not .E }}yes{{ end }}!", data) == "yes!"
    assert (
        execute('{{ range $i, $m := .L }}{{ if eq $m.R "v" }}{{ $i }}{{ end }},{{ end }}', data)
        == ",1,"
    )
    assert (
        execute(
            "{{ range $i, $m := .L }}{{ if and (eq $i 1) $.A }}{{ $.A }}{{ end }}{{ end }}", data
        )
        == "x"
    )
    assert byte_tokenizer().chat_template == TEMPLATE
