"""Chat templates, rendered where they can do no harm: all that Palate renders goes through here.

A template that fails over one conversation raises `TemplateFailed`, which is that row's. One that
asks for too much (time, memory, text) raises `TemplateRefused`, which ends the command: each row
would wait for it again.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from palate.tokens.template_process import SECONDS

PROGRAM = Path(__file__).with_name("template_process.py")
_AT_LEAST, _TIMES, _AT_MOST = 1_000_000, 20, 64_000_000
"""Characters of a text: so many, or so many times the request's where that is more; never more."""
_KEPT = ("PATH", "SYSTEMROOT", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LC_TIME")
_CURE = (
    "give the model another chat template (chat_template.jinja in its folder), or set "
    "data.template to raw"
)
_RUN = "import sys; sys.path += sys.argv[1:]; import template_process as t; t.serve()"
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")


class TemplateFailed(ValueError):
    """The template's own error over this conversation."""


class TemplateRefused(ValueError):
    """A template that is rendered for nobody: one line with cause and cure."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A conversation to render; `generate` opens an answer."""

    turns: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    generate: bool = False


def render_chat(
    tokenizer: Any,
    turns: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    generate: bool = False,
    **said: Any,
) -> str:
    """The conversation as the tokenizer's chat template writes it.

    The text is the one of `tokenizer.apply_chat_template`. `said` are words to the template, such
    as `enable_thinking`. Raises `TemplateFailed` and `TemplateRefused`.
    """
    (found,) = render_chats(tokenizer, [Ask(turns, tools, generate)], **said)
    if isinstance(found, TemplateFailed):
        raise found
    return found


def render_chats(tokenizer: Any, asks: Sequence[Ask], **said: Any) -> list[str | TemplateFailed]:
    """Several at once, which costs one exchange with the process that renders.

    A tokenizer with a method of its own has no template of a stranger, and is asked itself.
    Raises `TemplateRefused`.
    """
    if not _uses_jinja(tokenizer):
        return [_by_its_own(tokenizer, ask, said) for ask in asks]
    spelled = {name: _spelled(value) for name, value in tokenizer.special_tokens_map.items()}
    shared = {**spelled, "documents": None, **said}
    out: list[str | TemplateFailed] = []
    # A tokenizer may have another template for conversations with tools.
    for _, group in groupby(asks, key=lambda ask: bool(ask.tools)):
        part = list(group)
        try:
            template = str(tokenizer.get_chat_template(None, list(part[0].tools) or None))
        except ValueError as error:
            out += [TemplateFailed(plain(str(error)))] * len(part)
            continue
        out += _process().render(template, shared, [_variables(ask) for ask in part])
    return out


def _variables(ask: Ask) -> dict[str, Any]:
    return {
        "messages": [_turn(turn) for turn in ask.turns],
        "tools": list(ask.tools) or None,
        "add_generation_prompt": ask.generate,
    }


def plain(text: str, most: int = 300) -> str:
    """A stranger's text for one line of a terminal, without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * most]).strip()[:most]


def _uses_jinja(tokenizer: Any) -> bool:
    method = type(tokenizer).apply_chat_template
    return bool(method.__module__.startswith("transformers.tokenization_utils"))


def _by_its_own(tokenizer: Any, ask: Ask, said: Mapping[str, Any]) -> str | TemplateFailed:
    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(turn) for turn in ask.turns],
                tools=list(ask.tools) or None,
                tokenize=False,
                add_generation_prompt=ask.generate,
                **said,
            )
        )
    except Exception as error:  # noqa: BLE001 - somebody's program
        return TemplateFailed(plain(f"{type(error).__name__}: {error}"))


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as templates expect it: no empty keys, and a thought under each of its names."""
    kept = {name: value for name, value in turn.items() if value is not None}
    thought = next((kept[name] for name in _THOUGHTS if name in kept), None)
    return kept if thought is None else {"thinking": thought, **kept, "reasoning_content": thought}


def _spelled(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


class _Process:
    """The process that renders; threads take turns, and after a death a new one is started."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._known: dict[str, int] = {}

    def render(
        self, template: str, shared: Mapping[str, Any], many: Sequence[Mapping[str, Any]]
    ) -> list[str | TemplateFailed]:
        """A text, or the template's own error, for each of `many`; raises `TemplateRefused`."""
        given = json.dumps(many, default=str)
        most = min(_AT_MOST, max(_AT_LEAST, _TIMES * len(given)))
        about = f'"most": {most}, "many": {given}, "shared": {json.dumps(shared, default=str)}'
        with self._lock:
            said = self._ask(template, about)
        if "refused" in said:
            why = said["refused"]
            raise TemplateRefused(f"the model's chat template is not rendered: {why}; {_CURE}")
        return [TemplateFailed(plain(no)) if text is None else text for text, no in said["texts"]]

    def _ask(self, template: str, about: str) -> dict[str, Any]:
        child = self._child
        if child is None or child.poll() is not None:
            child, self._known = _start(), {}
            self._child = child
        new = template not in self._known
        key = self._known.setdefault(template, len(self._known))
        source = f', "template": {json.dumps(template)}' if new else ""
        line = f'{{"key": {key}, {about}{source}}}\n'
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # then there is no reply either
                child.stdin.write(line.encode())
                child.stdin.flush()
            reply = child.stdout.readline()
        except BaseException:  # Ctrl-C: its reply must not be read as the next one's
            self.close()
            raise
        if reply.endswith(b"\n"):
            found: dict[str, Any] = json.loads(reply)
            return found
        code = child.wait()
        self.close()
        return {"refused": _cause_of_death(code)}

    def close(self) -> None:
        """End the process, if there is one of ours."""
        child, self._child = self._child, None
        if child is None or self.owner != os.getpid():
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.kill()
        child.wait()


def environment_of_the_process() -> dict[str, str]:
    """What of our environment it is told: nothing in which a key may be."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def _start() -> subprocess.Popen[bytes]:
    # `-I -S` leaves out all that a user's environment adds; what is needed is named.
    specs = (importlib.util.find_spec(name) for name in ("jinja2", "markupsafe"))
    places = {str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin}
    return subprocess.Popen(  # noqa: S603 - our own program, without a shell
        [sys.executable, "-I", "-S", "-c", _RUN, *sorted(places), str(PROGRAM.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment_of_the_process(),
        # A Ctrl-C is for us: we may have answers to render until all is saved.
        start_new_session=True,
    )


def _cause_of_death(code: int) -> str:
    """Of a process that ended in the middle of a rendering."""
    if not hasattr(signal, "SIGPROF") or code == -signal.SIGPROF:
        return f"it takes more than {SECONDS} s"
    return f"the process that rendered it broke down (exit status {code})"


_current: _Process | None = None
_starting = threading.Lock()


def _process() -> _Process:
    """The one of this process; a fork does not share its parent's."""
    global _current  # noqa: PLW0603 - one process of each process
    with _starting:
        if _current is None or _current.owner != os.getpid():
            _current = _Process()
            atexit.register(_current.close)
        return _current
