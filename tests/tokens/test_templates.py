"""Chat templates: the text is transformers' own, and a hostile one harms nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tests.tiny import TEMPLATE, byte_tokenizer

from palate.records import Completion, Example, Message
from palate.tokens import templates
from palate.tokens.render import Renderer, Unusable
from palate.tokens.template_process import bounded
from palate.tokens.templates import (
    Ask,
    TemplateFailed,
    TemplateRefused,
    plain,
    render_chat,
    render_chats,
)

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <kind> & \u00fcber\u2028alles."},
    {"role": "user", "content": "a\nb\t\"c\" '\\' \U0001f600 {{ 7 * 7 }} {% raw %}"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"x": [1.5, None, True]}}}
        ],
    },
    {"role": "tool", "content": '{"y": "\u00e9"}', "tool_call_id": "1", "name": None},
    {"role": "assistant", "content": "done", "reasoning_content": "think"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

CHATML = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages[1:] %}
    {{- '<|im_start|>' + m.role + '\\n' + m['content'] ~ '<|im_end|>' ~ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
WITH_TOOLS = """\
{{ bos_token }}{% if tools is defined and tools %}{{ tools | tojson(indent=2) }}{% endif %}
{% for m in messages %}
{%- if m.tool_calls is defined %}{% for c in m.tool_calls %}
<tool_call>{{ c.function | tojson }}</tool_call>{{ c.function.arguments.items() | list }}
{% endfor %}{% else %}{{ m.content | trim }}{{ m.reasoning_content }}{{ m.name is defined }}
{% endif %}
{% endfor %}{{ eos_token }}{{ documents is none }}{{ enable_thinking }}{{ absent is defined }}"""
STATEFUL = """\
{% set ns = namespace(seen=0, last='') %}
{% macro turn(m, depth=0) %}[{{ depth }}:{{ m.role | upper }}]{% endmacro %}
{% for m in messages %}
{% set ns.seen = ns.seen + 1 %}{% set ns.last = m.role %}
{% if loop.index0 == 1 %}{% continue %}{% endif %}
{{ turn(m, loop.index) }}{% generation %}{{ m.content[:5] }}{% set inside = 1 %}{% endgeneration %}
{% if loop.last %}{% break %}{% endif %}
{% endfor %}{{ ns.seen }}{{ ns.last }}{{ inside is defined }}
{{ dict(a=1, **{'b': 2}) | tojson }}{{ 3 * 'ab' }}{{ 2 ** 10 }}{{ 7 // 2 * 3 }}
{{ '%s-%05d' % ('x', 7) }}{{ strftime_now('%Y') }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}
{{ '\\u00e9\\u2028' | tojson }}
{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}"""


@pytest.mark.parametrize("template", [TEMPLATE, CHATML, WITH_TOOLS, STATEFUL])
@pytest.mark.parametrize("tools", [[], TOOLS])
@pytest.mark.parametrize("generate", [False, True])
def test_the_text_is_that_of_transformers(template: str, tools: Any, generate: bool) -> None:
    tokenizer = byte_tokenizer(template)
    theirs = tokenizer.apply_chat_template(
        TURNS,
        tools=tools or None,
        tokenize=False,
        add_generation_prompt=generate,
        enable_thinking=False,
    )
    ours = render_chat(tokenizer, TURNS, tools=tools, generate=generate, enable_thinking=False)
    assert ours == theirs
    assert len(ours) > 50


def test_several_at_once_are_each_by_itself() -> None:
    tokenizer = byte_tokenizer(
        {"default": "{{ messages[0].content }}", "tool_use": "{{ tools | length }}"}
    )  # type: ignore[arg-type]
    turns = [{"role": "user", "content": "hi"}]
    found = render_chats(tokenizer, [Ask(turns), Ask([]), Ask(turns, TOOLS), Ask(turns)])
    assert [found[0], *found[2:]] == ["hi", "1", "hi"]
    assert isinstance(found[1], TemplateFailed)


HUNGRY = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "loops without calls": "{% set r = range(99999) %}{% for a in r %}{% for b in r %}"
    "{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    "a sum of lists": "{% set r = [[1] * 99999] * 9999 %}{{ r | sum(start=[]) | length }}",
    "a string that doubles": "{% set ns = namespace(x='a') %}{% for a in range(99999) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a block that doubles": "{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(99999) %}"
    "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "padding": "{{ 'a'.ljust(10 ** 10) }}",
    "a width": "{{ '{:10000000000}'.format('a') }}",
    "a width by percent": "{{ '%10000000000d' % 1 }}",
    "a filter, folded when compiled": "{{ 'a' | center(10000000000) }}",
    "replacing": "{% set a = 'a' * 9999999 %}{{ a.replace('a', a) }}",
    "a list that grows": "{% set ns = namespace(x=[1]) %}{% for a in range(99999) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "lists within lists": "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "lists compared": "{% set ns = namespace(x=[1], y=[1]) %}{% for a in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "a long text": "{% for a in range(99999) %}{{ 'abcdefgh' * 8 }}{% endfor %}",
}


@pytest.mark.parametrize("template", HUNGRY.values(), ids=list(HUNGRY))
@pytest.mark.usefixtures("quick")
def test_a_hungry_template_is_refused(template: str) -> None:
    with pytest.raises(TemplateRefused) as caught:
        render_chat(byte_tokenizer(template), TURNS)
    said = str(caught.value)
    assert said.isprintable()
    assert "the model's chat template is not rendered" in said
    assert "set data.template to raw" in said
    assert render_chat(byte_tokenizer(), TURNS[1:2])  # and the next one is rendered


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process whose limit is half a second, so that the tests are short."""
    text = templates.PROGRAM.read_text(encoding="utf-8")
    assert "\nSECONDS = 5\n" in text
    program = tmp_path / templates.PROGRAM.name
    program.write_text(text.replace("\nSECONDS = 5\n", "\nSECONDS = 0.5\n"))
    monkeypatch.setattr(templates, "PROGRAM", program)
    monkeypatch.setattr(templates, "_current", None)


WRONG = {
    "a product": ("{{ 'a' * 10**9 }}", "OverflowError"),
    "a power": ("{{ 10 ** 100000 }}", "OverflowError"),
    "a range": ("{% for a in range(10**9) %}{% endfor %}", "OverflowError"),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "deep brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
    "a dunder": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "a dunder by name": ("{{ ''['__class__']['__mro__'] }}", "SecurityError"),
    "a dunder by filter": ("{{ (''|attr('__class__')).__mro__ }}", "Error"),
    "a dunder by format": ("{{ '{0.__class__.__mro__}'.format(1) }}", "SecurityError"),
    "globals": ("{{ raise_exception.__globals__.os }}", "SecurityError"),
    "a namespace's dunder": ("{{ namespace(__class__=1) }}", "SecurityError"),
    "another file": ("{% include '/etc/passwd' %}", "TypeError"),
    "a change": ("{{ messages.append(1) }}", "SecurityError"),
    "no syntax": ("{% for %}", "TemplateSyntaxError"),
}


@pytest.mark.parametrize(("template", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_template_is_the_rows_fault(template: str, words: str) -> None:
    with pytest.raises(TemplateFailed, match=words):
        render_chat(byte_tokenizer(template), TURNS)


def test_what_a_template_says_is_no_command_to_the_terminal() -> None:
    template = "{{ raise_exception('\\x1b]0;x\\x07\\x1b[2J\\r\\n\\u202eevil' ~ 'a' * 5000) }}"
    with pytest.raises(TemplateFailed) as caught:
        render_chat(byte_tokenizer(template), TURNS)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300
    assert plain("a\x1b[31mb\u202ec") == "a [31mb c"


@pytest.mark.usefixtures("quick")
def test_a_refused_template_stops_the_command_and_not_the_row() -> None:
    only_long = (
        "{{ bos_token }}{% if messages | length > 2 %}" + HUNGRY["nested loops"] + "{% endif %}"
    )
    renderer = Renderer(byte_tokenizer(only_long))
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    example = Example(prompt=turns, completions=(Completion((Message("assistant", "d"),)),))
    with pytest.raises(TemplateRefused) as caught:
        renderer.check(example)
    assert not isinstance(caught.value, Unusable)
    with pytest.raises(TemplateRefused):
        Renderer(byte_tokenizer(HUNGRY["nested loops"]))


def test_the_process_has_no_keys_and_writes_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    code = (
        "import os, sys; sys.path += sys.argv[1:-1]; import template_process as t\n"
        "t.limit_process()\n"
        "print(sorted(n for n in os.environ if 'KEY' in n))\n"
        "try:\n    open(sys.argv[-1], 'w').write('x' * 100_000)\nexcept OSError: print('no file')\n"
    )
    places = [str(templates.PROGRAM.parent), str(Path(str(jinja2.__file__)).parents[1])]
    seen = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *places, str(tmp_path / "x")],
        env=templates.environment_of_the_process(),
        capture_output=True,
        text=True,
        check=False,
    )
    # SIGXFSZ ends it where Python does not turn it into an error
    assert seen.stdout.split("\n")[0] == "[]", seen.stderr
    assert not (tmp_path / "x").exists() or not (tmp_path / "x").read_bytes()


def test_threads_take_turns() -> None:
    tokenizer = byte_tokenizer("{{ messages[0].content }}")
    wrong: list[str] = []

    def ask(number: int) -> None:
        for k in range(20):
            text = f"{number}-{k}"
            if render_chat(tokenizer, [{"role": "user", "content": text}]) != text:
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_was_killed_is_replaced() -> None:
    tokenizer = byte_tokenizer("{{ messages[0].content }}")
    turns = [{"role": "user", "content": "a"}]
    assert render_chat(tokenizer, turns) == "a"
    child = templates._process()._child
    assert child is not None
    child.kill()
    while child.poll() is None:
        time.sleep(0.01)
    assert render_chat(tokenizer, turns) == "a"


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no signals")
def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "from palate.tokens import templates\n"
        "assert templates._process().render('a', {}, [{}]) == ['a']\n"
        "import os; print(templates._process()._child.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    seen = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    child = int(seen.stdout.split()[-1])
    for _ in range(1000):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the process that renders outlives its parent")


@pytest.mark.parametrize(
    ("sign", "left", "right"),
    [("*", "ab", 10**9), ("*", 10**9, [1]), ("*", 2**4000, 2**4000), ("**", 3, 10**6)],
)
def test_gigantic_products(sign: str, left: Any, right: Any) -> None:
    with pytest.raises(OverflowError, match="more than"):
        bounded(sign, left, right)


def test_ordinary_products() -> None:
    assert bounded("*", 6, 7) == 42
    assert bounded("*", "ab", 2) == "abab"
    assert bounded("*", 1.5, 2) == 3.0
    assert bounded("**", 2, 10) == 1024
    assert bounded("**", 2, -1) == 0.5
    assert bounded("**", 2.0, 3) == 8.0
