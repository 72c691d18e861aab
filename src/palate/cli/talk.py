"""`palate chat`: talk to a run's model, or to any other, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palate.cli.desk import REMARKS, Desk, Rival, remark, write_pieces
from palate.cli.remarks import Remarks
from palate.cli.runs import is_run, run_config, run_folder, shared_system
from palate.cli.speaking import place_of
from palate.progress import Reporter, reporter_for
from palate.records import Message

if TYPE_CHECKING:
    from palate.generate.sampling import Sampling
    from palate.model.policy import Policy
    from palate.tokens.render import Renderer

HELP = (
    "/good, /bad and /edit BETTER ANSWER keep what you think of the last answer in the store; "
    "/compare shows the base's answer, then /1 or /2 says which is better; /system TEXT changes "
    "the system prompt, /reset starts over, /quit or Ctrl-D leaves"
)


@dataclass(slots=True)
class Talk:
    """A conversation with one model: `limit` is its context length in tokens."""

    policy: Policy
    renderer: Renderer
    sampling: Sampling
    limit: int
    system: str | None
    turns: list[Message] = field(default_factory=list)
    answers: int = 0

    def prompt(self, said: str) -> tuple[list[int], int]:
        """Token ids of the conversation with `said` at its end, and how many turns were dropped.

        Room is left for an answer. Oldest turns go first, for good; raises `ValueError` when
        even the new message alone does not fit.
        """
        turns = [*self.turns, Message("user", said)]
        dropped = 0
        room = self.limit - min(self.sampling.max_new_tokens, self.limit // 2)
        while len(ids := self.renderer.prompt(self._messages(turns))) > room:
            rest = next((i for i, m in enumerate(turns) if i and m.role == "user"), None)
            if rest is None:
                raise ValueError(
                    f"the message is too long: {len(ids)} tokens with the system prompt, and "
                    f"the model reads {self.limit}, of which {self.limit - room} are for its answer"
                )
            turns, dropped = turns[rest:], dropped + 1
        self.turns = turns
        return ids, dropped

    def asked(self) -> list[Message]:
        """Everything before the last answer, as the model saw it."""
        return self._messages(self.turns[:-1])

    def _messages(self, turns: list[Message]) -> list[Message]:
        return [Message("system", self.system), *turns] if self.system else turns

    def answer(self, ids: list[int]) -> Generator[str]:
        """The answer's text in pieces; what was said is kept, also when the caller stops early."""
        from palate.generate.stream import TextStream, printable, stream_ids

        text = TextStream(self.renderer.tokenizer)
        said: list[str] = []
        end_ids = tuple(self.renderer.end_ids)
        tokens = stream_ids(self.policy, ids, self.sampling, end_ids=end_ids, answer=self.answers)
        try:
            for token in tokens:
                if token in self.renderer.end_ids:
                    break
                said.append(text.add(token))
                yield printable(said[-1])
            said.append(text.finish())
            yield printable(said[-1])
        finally:
            self.answers += 1
            self.turns.append(Message("assistant", "".join(said)))

    def reset(self) -> None:
        """Forget the conversation; the system prompt stays."""
        self.turns = []


def run_chat(
    model: str,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    db: str,
) -> None:
    """Load the model, then answer line by line until the input ends."""
    say = reporter_for()
    talk = open_talk(model, system, temperature, max_new_tokens, seed, say)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    desk = Desk(Remarks(db, Path(model).resolve().name), _rival(talk, model, say))
    if interactive:
        say.note(HELP)
    try:
        _converse(talk, desk, interactive, say)
    finally:
        desk.remarks.close()


def _rival(talk: Talk, model: str, say: Reporter) -> Rival | None:
    """The base of a run, under the run's template; other models have none."""
    if not is_run(model):
        return None
    config = run_config(run_folder(model))

    def open_base() -> Talk:
        from palate.generate.sampling import most_positions
        from palate.speak.local import open_policy

        say.note(f"loading {config.model.path} …")
        policy, renderer = open_policy(
            config.model.path, config.data.template, config.model.trust_remote_code
        )
        return replace(
            talk, policy=policy, renderer=renderer, limit=most_positions(policy), turns=[]
        )

    return Rival("base", open_base)


def _converse(talk: Talk, desk: Desk, interactive: bool, say: Reporter) -> None:
    """Line by line until the input ends."""
    for line in _lines(interactive, say):
        if line.startswith("/"):
            if not _command(talk, desk, line, interactive, say):
                return
            continue
        desk.begin()
        try:
            ids, dropped = talk.prompt(line)
        except ValueError as error:
            if not interactive:
                raise
            say.note(f"({error})")
            continue
        if dropped:
            say.note(
                f"(the conversation outgrew the model: its oldest {dropped} turns are dropped)"
            )
        _show(talk, ids, interactive, say)


def open_talk(
    model: str,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    say: Reporter,
    *,
    scores: bool = False,
) -> Talk:
    """Load what `model` names, which `scores` texts as well; raises `ValueError` with the cure."""
    place, template, trust = place_of(model)
    if is_run(model) and system is None:
        system = _trained_system(run_folder(model), say)
    say.note(f"loading {place} …")
    from palate.generate.sampling import Sampling, most_positions
    from palate.speak.local import open_policy

    policy, renderer = open_policy(place, template, trust, probed=scores)

    return Talk(
        policy=policy,
        renderer=renderer,
        sampling=Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed),
        limit=most_positions(policy),
        system=system or None,
    )


def _trained_system(folder: Path, say: Reporter) -> str | None:
    """The system prompt of the run's training data, if all of it shares one."""
    from palate.store.snapshot import read_snapshot

    place = folder / "snapshot"
    if not (place / "manifest.json").is_file():
        return None
    system = shared_system(read_snapshot(place).train)
    if system:
        words = " ".join(system.split())
        short = words if len(words) <= 60 else words[:59] + "…"
        say.note(f"system prompt: the one of the training data (“{short}”; --system overrides)")
    return system


def _lines(interactive: bool, say: Reporter) -> Iterator[str]:
    """What the user says, line by line; ends with the input, or at a second Ctrl-C in a row."""
    if not interactive:
        for line in sys.stdin:
            if said := _clean(line):
                yield said
        return
    with suppress(ImportError):  # absent on Windows
        import readline  # noqa: F401 - gives `input` line editing and a history
    pressed = False
    while True:
        try:
            said = _clean(input("> "))
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            if pressed:
                return
            pressed = True
            say.note("(once more, /quit or Ctrl-D leaves)")
            continue
        pressed = False
        if said:
            yield said


def _clean(line: str) -> str:
    """The line without its ends; bytes that are not text become U+FFFD."""
    return line.encode("utf-8", "replace").decode("utf-8").strip()


def _command(talk: Talk, desk: Desk, line: str, interactive: bool, say: Reporter) -> bool:
    """Do what a line that begins with a slash says; False to leave."""
    name, _, rest = line.partition(" ")
    if name in {"/quit", "/exit", "/q"}:
        return False
    if name in REMARKS:
        remark(talk, desk, name, rest.strip(), interactive, say)
    elif name == "/reset":
        talk.reset()
        desk.duel = None
        say.note("(a new conversation)")
    elif name == "/system" and rest.strip():
        talk.system = rest.strip()
        talk.reset()
        say.note("(a new conversation under the new system prompt)")
    elif name == "/system":
        say.note(f"(system prompt: {talk.system or 'none'})")
    else:
        say.note(f"({HELP})")
    return True


def _show(talk: Talk, ids: list[int], interactive: bool, say: Reporter) -> None:
    """Write the answer as it comes."""
    write_pieces(talk.answer(ids), interactive, say)
