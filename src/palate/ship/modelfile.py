"""Ollama's Modelfile, whose TEMPLATE is derived from what the chat template renders.

A conversation with marked contents is rendered, and what stands between the marks gives what
opens and closes each role's turn. Those pieces are put together again for other conversations;
only where that is the chat template's own rendering, every time, is a TEMPLATE written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from palate.tokens.templates import TemplateFailed, render_chat

Turn = tuple[str, str]
Render = Callable[[Sequence[Turn], bool], str]

_MARKS = ("Mqzsystem", "Mqzask", "Mqzsay", "Mqzagain")
# Pieces that identify a format, for people; nothing depends on the names.
_KNOWN = {
    "<|im_start|>user\n": "ChatML",
    "<|start_header_id|>user<|end_header_id|>\n\n": "Llama 3",
    "<start_of_turn>user\n": "Gemma",
    "<|user|>\n": "Phi-3 or Zephyr",
    "[INST] ": "Mistral",
    "[INST]": "Mistral",
}


@dataclass(frozen=True, slots=True)
class Format:
    """A chat format as the pieces around contents.

    `begin` stands before everything and `default` besides where there is no system prompt. `system`
    is what opens and closes a system turn, None where the prompt is put at the head of the first
    user turn. `generate` is what comes before an answer that is still to be written.
    """

    begin: str
    default: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    generate: str

    @property
    def name(self) -> str:
        """What people call it, or that it has no common name."""
        return next((v for k, v in _KNOWN.items() if self.user[0].startswith(k)), "its own")

    def render(self, turns: Sequence[Turn], generate: bool) -> str:
        """The conversation, as Ollama makes it of the TEMPLATE."""
        spoken = any(role == "system" for role, _ in turns)
        out = self.begin + ("" if spoken else self.default)
        for index, (role, content) in enumerate(turns):
            if role == "system":
                if self.system is not None:
                    out += self.system[0] + content + self.system[1]
                continue
            opens, closes = self.user if role == "user" else self.assistant
            joined = self.system is None and role == "user" and index == 1 and spoken
            head = f"{turns[0][1]}\n\n" if joined else ""
            out += opens + head + content + closes
        return out + (self.generate if generate else "")

    def go_template(self) -> str:
        """The same as a Go template over Ollama's `.Messages` and `.System`."""
        parts = [self.begin]
        if self.default:
            parts.append("{{ if not .System }}" + self.default + "{{ end }}")
        parts.append("{{ range $i, $m := .Messages }}")
        if self.system is not None:
            parts.append('{{ if eq $m.Role "system" }}' + _around(self.system) + "{{ end }}")
        head = "" if self.system is not None else _JOINED
        parts.append('{{ if eq $m.Role "user" }}' + _around(self.user, head) + "{{ end }}")
        parts.append('{{ if eq $m.Role "assistant" }}' + _around(self.assistant) + "{{ end }}")
        return "".join(parts) + "{{ end }}" + self.generate


# The system message is number 0, so the first user turn is number 1.
_JOINED = "{{ if and (eq $i 1) $.System }}{{ $.System }}\n\n{{ end }}"


def _around(pieces: tuple[str, str], head: str = "") -> str:
    return pieces[0] + head + "{{ $m.Content }}" + pieces[1]


def recognise(tokenizer: Any, *, bos_added: bool, system_joins: bool) -> Format | None:
    """The tokenizer's chat format; None where it is not made of pieces around contents.

    With `bos_added` the runtime puts the beginning-of-text token itself, and it is left out.
    """
    render = _renderer(tokenizer)
    try:
        found = _derive(render, system_joins, tokenizer.bos_token if bos_added else None)
        if found is None or not all(_same(found, render, turns, system_joins) for turns in _TRIES):
            return None
    except (TemplateFailed, IndexError):  # or it leaves a mark out
        return None
    bos = tokenizer.bos_token
    begin, user = found.begin, found.user
    if bos_added and bos and begin.startswith(bos):
        begin = begin[len(bos) :]
    elif bos_added and bos and not begin and user[0].startswith(bos):
        return None  # before every user turn: Ollama would put only one
    pieces = [begin, found.default, *(found.system or ()), *user, *found.assistant, found.generate]
    if any("{{" in piece or "}}" in piece or '"""' in piece for piece in pieces):
        return None
    return Format(begin, found.default, found.system, user, found.assistant, found.generate)


_TRIES: tuple[tuple[Turn, ...], ...] = (
    (("user", "Hello"),),
    (("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi."), ("user", "And\nyou?")),
    (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
)


def _renderer(tokenizer: Any) -> Render:
    def render(turns: Sequence[Turn], generate: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return render_chat(tokenizer, messages, generate=generate, enable_thinking=False)

    return render


def _derive(render: Render, system_joins: bool, bos: str | None) -> Format | None:
    said, ask, say, again = _MARKS
    plain = render([("user", ask), ("assistant", say), ("user", again)], False)
    answered = render([("user", ask), ("assistant", say)], False)
    prompted = render([("user", ask)], True)
    alone = render([("user", ask)], False)
    if not prompted.startswith(alone):
        return None
    closes_user = alone.split(ask)[1]
    closes_answer = answered.split(say)[1]
    opens_answer = _after(_between(plain, ask, say), closes_user)
    opens_user = _after(_between(plain, say, again), closes_answer)
    head = plain.split(ask)[0]
    if opens_answer is None or opens_user is None or not head.endswith(opens_user):
        return None
    before = head[: len(head) - len(opens_user)]
    user, assistant = (opens_user, closes_user), (opens_answer, closes_answer)
    generate = prompted[len(alone) :]
    if system_joins:
        return Format(before, "", None, user, assistant, generate)
    spoken = render([("system", said), ("user", ask)], False)
    opens = spoken.split(said)[0]
    closes = _between(spoken, said, ask)
    if not closes.endswith(opens_user):
        return None
    # Where there is no system prompt a template may write one of its own.
    if bos and before.startswith(bos) and opens.startswith(bos):
        begin = bos
    else:
        begin = before if opens.startswith(before) else ""
    system = (opens[len(begin) :], closes[: len(closes) - len(opens_user)])
    return Format(begin, before[len(begin) :], system, user, assistant, generate)


def _between(text: str, left: str, right: str) -> str:
    return text.split(left, 1)[1].split(right, 1)[0]


def _after(text: str, head: str) -> str | None:
    return text[len(head) :] if text.startswith(head) else None


def _same(found: Format, render: Render, turns: Sequence[Turn], system_joins: bool) -> bool:
    given = list(turns)
    if system_joins and given[0][0] == "system":
        given = [("user", f"{given[0][1]}\n\n{given[1][1]}"), *given[2:]]
    return found.render(turns, True) == render(given, True)


# Ollama fills in the one prompt of `/api/generate`; turns are joined by an empty line in training.
_PLAIN = "{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}"


def modelfile(
    file: str,
    found: Format | None,
    *,
    plain: bool = False,
    system: str | None,
    stops: Sequence[str],
    licence: str | None,
) -> str:
    """The Modelfile's text: FROM, TEMPLATE where the format is known, SYSTEM, stops, licence.

    With `plain` the model was trained without a chat template.
    """
    lines = [f"FROM ./{file}"]
    if plain:
        lines.append(f'TEMPLATE """{_PLAIN}"""')
    elif found is not None:
        lines.append(f'TEMPLATE """{found.go_template()}"""')
    else:
        lines.append("# No TEMPLATE: the chat template is not made of turns that Ollama's language")
        lines.append("# can repeat. Ollama reads the one in the GGUF file where it knows it.")
    if system and not quotable(system):
        lines.append("# No SYSTEM: the prompt of training has quotes that a Modelfile cannot hold.")
    elif system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    if licence:
        lines.append(f'LICENSE "{licence}"')
    return "\n".join(lines) + "\n"


def quotable(text: str) -> bool:
    """Whether a text can stand between three quotes: a Modelfile has no escape for them."""
    return '"""' not in text and text[:1] != '"' and text[-1:] != '"'
