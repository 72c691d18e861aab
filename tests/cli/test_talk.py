from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import SYSTEM
from tests.tiny import byte_tokenizer, tiny_model
from typer.testing import Result

from palate.cli import talk as talking
from palate.cli.desk import Desk, Rival
from palate.cli.remarks import Remarks
from palate.cli.runs import shared_system
from palate.cli.talk import Talk
from palate.generate.sampling import Sampling
from palate.generate.stream import printable
from palate.model.policy import Policy
from palate.progress import Quiet
from palate.records import Completion, Example, Message
from palate.tokens.render import Renderer

Palate = Callable[..., Result]


def a_talk(limit: int = 10_000, system: str | None = None, tokens: int = 6) -> Talk:
    return Talk(
        policy=Policy(tiny_model()).eval(),
        renderer=Renderer(byte_tokenizer()),
        sampling=Sampling(max_new_tokens=tokens, temperature=1.0),
        limit=limit,
        system=system,
    )


def answered(talk: Talk, said: str) -> str:
    ids, _ = talk.prompt(said)
    return "".join(talk.answer(ids))


def test_piped_lines_are_answered_without_prompt_symbols(
    palate: Palate, tiny_model_folder: Path
) -> None:
    lines = "hello\n\n/reset\nagain\n/quit\nnever said\n"
    done = palate("chat", tiny_model_folder, "--max-new-tokens", 4, typed=lines)
    assert done.exit_code == 0, done.output
    assert not done.stdout.startswith("> ")
    assert done.stdout.count("\n") >= 2
    assert "a new conversation" in done.stderr
    repeated = palate("chat", tiny_model_folder, "--max-new-tokens", 4, typed=lines)
    assert repeated.stdout == done.stdout, "the seed decides what is said"


def test_a_run_speaks_under_the_system_prompt_of_its_data(
    palate: Palate, finished_run: Path
) -> None:
    done = palate("chat", finished_run, "--max-new-tokens", 2, typed="hello\n/system\n")
    assert done.exit_code == 0, done.output
    assert str(finished_run / "model") in done.stderr
    assert f"({'system prompt: ' + SYSTEM})" in done.stderr
    other = palate("chat", finished_run, "--system", "Rhyme.", typed="/system\n")
    assert "(system prompt: Rhyme.)" in other.stderr
    assert SYSTEM not in other.stderr


def test_a_run_that_is_not_finished_is_one_line(palate: Palate, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: m\ndata: d.jsonl\n", encoding="utf-8")
    done = palate("chat", tmp_path)
    assert done.exit_code == 2
    assert "is not finished" in done.output
    assert "resume=auto" in done.output
    assert done.output.count("\n") == 1


def test_a_model_that_is_not_there_is_an_error_line(palate: Palate, tmp_path: Path) -> None:
    done = palate("chat", tmp_path / "nothing")
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("error: the model")


def test_the_history_travels_with_each_message() -> None:
    talk = a_talk(system="Be kind.")
    first = answered(talk, "one")
    assert [m.role for m in talk.turns] == ["user", "assistant"]
    ids, dropped = talk.prompt("two")
    assert dropped == 0
    said = talk.renderer.tokenizer.decode(ids)
    assert [said.find(part) for part in ("Be kind.", "one", first, "two")] == sorted(
        said.find(part) for part in ("Be kind.", "one", first, "two")
    )
    assert said.endswith("<|start|>assistant\n")


def test_the_oldest_turns_go_when_the_context_is_full() -> None:
    talk = a_talk(limit=120, system="S", tokens=4)
    talk.turns = [
        Message("user", "a" * 20),
        Message("assistant", "b" * 20),
        Message("user", "c" * 10),
        Message("assistant", "d" * 5),
    ]
    # A turn costs its text, its role and four more tokens: <|start|>, two line breaks, <|end|>.
    # system 11, user 28, assistant 33, user 18, assistant 18, user 9 and the opening 11: 128 > 116
    ids, dropped = talk.prompt("e")
    assert dropped == 1
    assert len(ids) == 128 - 28 - 33
    assert [m.content[0] for m in talk.turns] == ["c", "d", "e"]


def test_a_message_longer_than_the_context_is_refused_and_forgotten() -> None:
    talk = a_talk(limit=60, tokens=4)
    with pytest.raises(ValueError, match="too long"):
        talk.prompt("x" * 100)
    assert talk.turns == []


def test_an_answer_that_is_stopped_stays_as_far_as_it_was_said() -> None:
    talk = a_talk(tokens=20)
    ids, _ = talk.prompt("one")
    pieces = talk.answer(ids)
    said = ""
    while not said:
        said += next(pieces)
    pieces.close()
    assert talk.turns[-1].role == "assistant"
    assert printable(talk.turns[-1].content).startswith(said[:1])
    assert talk.answers == 1


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    talk, say = a_talk(), Quiet()
    talk.turns = [Message("user", "x")]
    desk = Desk(Remarks("unused.db", "tiny"), None)
    assert talking._command(talk, desk, "/system Be brief.", False, say)
    assert talk.system == "Be brief."
    assert talk.turns == []
    assert talking._command(talk, desk, "/what", False, say)
    assert not talking._command(talk, desk, "/quit", False, say)


class Keyboard:
    """Stands for `input`: each entry is a line, or an exception that the keys raise."""

    def __init__(self, *entries: Any) -> None:
        self.entries = list(entries)

    def __call__(self, prompt: str) -> str:
        assert prompt == "> "
        entry = self.entries.pop(0) if self.entries else EOFError()
        if isinstance(entry, BaseException):
            raise entry
        return str(entry)


def test_in_a_terminal_two_interrupts_or_the_end_of_input_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Keyboard(
        "one", KeyboardInterrupt(), " two ", KeyboardInterrupt(), KeyboardInterrupt(), "no"
    )
    monkeypatch.setattr("builtins.input", keys)
    assert list(talking._lines(True, Quiet())) == ["one", "two"]
    monkeypatch.setattr("builtins.input", Keyboard("one"))
    assert list(talking._lines(True, Quiet())) == ["one"]


def test_in_a_terminal_an_interrupt_ends_the_answer_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = a_talk()

    def interrupted(*_: Any, **__: Any) -> Iterator[int]:
        yield ord("h")
        raise KeyboardInterrupt

    monkeypatch.setattr("palate.generate.stream.stream_ids", interrupted)
    ids, _ = talk.prompt("one")
    talking._show(talk, ids, True, Quiet())
    assert len(talk.turns) == 2
    ids, _ = talk.prompt("two")
    with pytest.raises(KeyboardInterrupt):
        talking._show(talk, ids, False, Quiet())


def test_bytes_that_are_no_text_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\udc80b\n \n"))
    assert list(talking._lines(False, Quiet())) == ["a?b"]


def test_the_shared_system_prompt_is_one_that_all_have() -> None:
    def example(*roles: str) -> Example:
        prompt = tuple(Message(role, f"the {role}") for role in roles)
        return Example(prompt, (Completion((Message("assistant", "a"),)),))

    assert shared_system([example("system", "user"), example("system", "user")]) == "the system"
    assert shared_system([example("developer", "user")]) == "the developer"
    assert shared_system([example("system", "user"), example("user")]) is None
    assert shared_system([example("user")]) is None
    assert shared_system([]) is None


def test_remarks_are_kept_in_the_store(
    palate: Palate, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thumb, an edit and a vote, each with the whole conversation, become pairs and labels."""
    from palate.store.database import Store
    from palate.store.reading import stored

    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    db = tmp_path / "talk.db"
    lines = "/good\nhello\n/good\n/bad too short\nagain\n/edit Better.\n/good\n"
    lines += "more\n/2\n/compare\n/2\n/quit\n"
    done = palate("chat", finished_run, "--max-new-tokens", 3, "--db", db, typed=lines)
    assert done.exit_code == 0, done.output
    assert "there is no answer yet" in done.stderr
    assert "first /compare" in done.stderr
    with Store.open(db, create=False) as store:
        rows = {one.example.prompt[-1].content: one for one in stored(store)}
    assert set(rows) == {"hello", "again", "more"}
    assert rows["hello"].example.prompt[0] == Message("system", SYSTEM)
    thumbs = [signal.label for signal in rows["hello"].signals if signal.kind == "thumb"]
    assert thumbs[-1] is False, "the last word counts"
    assert "too short" in {signal.comment for signal in rows["hello"].signals}
    assert "the last answer is yours" in done.stderr
    (edit,) = rows["again"].signals
    assert edit.edit == (Message("assistant", "Better."),)
    voted = rows["more"].example
    assert voted.prompt[-2] == Message("assistant", "Better."), "the talk went on with the edit"
    (vote,) = rows["more"].signals
    assert (vote.kind, vote.choice, vote.over) == ("vote", 1, 0)
    assert [answer.source for answer in voted.completions] == [finished_run.name, "base"]


def test_a_model_that_is_no_run_has_nothing_to_compare_with(
    palate: Palate, tiny_model_folder: Path, tmp_path: Path
) -> None:
    lines = "hello\n/compare\n/edit\n"
    db = tmp_path / "talk.db"
    done = palate("chat", tiny_model_folder, "--max-new-tokens", 2, "--db", db, typed=lines)
    assert done.exit_code == 0
    assert "has none" in done.stderr
    assert "in one line" in done.stderr
    assert not db.exists(), "the store is made with the first remark"


def test_an_answer_that_was_stopped_is_none_to_vote_on(tmp_path: Path) -> None:
    """Ctrl-C while the base answers, and a base that cannot be loaded: the talk goes on."""

    class Stopped:
        system: str | None = None
        turns: list[Message]
        answers = 0

        def prompt(self, said: str) -> tuple[list[int], int]:
            return [1], 0

        def answer(self, ids: list[int]) -> Iterator[str]:
            yield "half"
            raise KeyboardInterrupt

    def gone() -> Talk:
        raise ValueError("there is no model 'gone'")

    talk = a_talk()
    talk.turns = [Message("user", "x"), Message("assistant", "y")]
    for rival in (Rival("base", Stopped), Rival("base", gone)):  # type: ignore[arg-type]
        desk = Desk(Remarks(str(tmp_path / "unused.db"), "tiny"), rival)
        assert talking._command(talk, desk, "/compare", True, Quiet())
        assert desk.duel is None
        assert talking._command(talk, desk, "/1", True, Quiet())
    assert not (tmp_path / "unused.db").exists()
