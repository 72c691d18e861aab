"""The frozen records that every room exchanges.

An `Example` is a prompt and the completions that branch from it. It is what
`ingest` produces, `curate` filters, `store` keeps and `tokens` renders. Nothing
here knows about tensors, files or databases.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = ("system", "developer", "user", "assistant", "tool")

Shape = Literal["pair", "labelled", "demonstration", "group", "text"]


# Tags under which logs name the conversation that a row belongs to, the most telling first.
CONVERSATION_TAGS = (
    "conversation",
    "conversation_id",
    "conversationId",
    "gen_ai.conversation.id",
    "session_id",
    "sessionId",
    "session.id",
    "thread_id",
)


class RecordError(ValueError):
    """A row that cannot become a record.

    `reason` is a short, stable slug under which the row is counted in the
    rejects file (for instance ``missing-field``); the message says more.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `tool_calls` keeps the vendor's JSON objects as they came."""

    role: str
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The message as the JSON object that chat templates and APIs expect."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            out["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            out["name"] = self.name
        return out

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Message:
        """Inverse of `to_dict`; trusts its input (see `ingest` for checked parsing)."""
        return cls(
            role=raw["role"],
            content=raw["content"],
            tool_calls=tuple(raw.get("tool_calls") or ()),
            tool_call_id=raw.get("tool_call_id"),
            name=raw.get("name"),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: usually a single assistant message, or several turns.

    `label` is a thumb (True up, False down), `score` a number from a judge,
    `source` the model that wrote it, `finish_reason` what the provider said.
    Without messages it stands for the prompt itself: its label says whether that
    is one to answer, which a guard learns.
    """

    messages: tuple[Message, ...]
    source: str | None = None
    score: float | None = None
    label: bool | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The assistant's words, turns joined by blank lines."""
        return "\n\n".join(m.content for m in self.messages if m.role == "assistant")

    @property
    def content_key(self) -> str:
        """Canonical JSON of what was said, for equality: whitespace at the ends is ignored."""
        turns = [
            {**message.to_dict(), "content": message.content.strip()} for message in self.messages
        ]
        return canonical_json(turns)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which completion is better than which (indices), how strongly, and who says so."""

    better: int
    worse: int
    by: str = "file"
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record came from: file, 1-based line or row, time as written, hash of the row."""

    source: str
    line: int
    time: str | None = None
    hash: str | None = None


SignalKind = Literal["thumb", "score", "edit", "again", "vote", "tie"]

JUDGE = "judge/"
"""How `Signal.by`, and `Verdict.by`, begin where no person speaks but a judge of ours."""

ADJUDICATED = "adjudicated"
"""`Signal.name` of a vote, tie or thumb that settles what others said of the same answers."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What somebody said about an answer that stands in another row.

    `about` holds ids of that row's interaction, any of which names it (see `Arrival.ids`), and
    `choice` is the answer's index there. What each kind says:

    - ``thumb``: `label`, True up and False down;
    - ``score``: `score`, higher is better; `name` tells which quality was scored;
    - ``edit``: `edit`, the answer as it should have been;
    - ``again``: the user asked for another answer, so this one was not good enough;
    - ``vote``: `choice` is better than `over`, another answer of the same interaction, by
      `strength` in (0, 1] where that is known; `choice` None says that both are bad;
    - ``tie``: `choice` is as good as `over`.

    `by` is the person or the program that said it, as its system names them. `shown` are the
    answers that a person had in view, in the order of the page, where that is known: both are bad
    means these then, and not every answer of the interaction.
    """

    about: tuple[str, ...]
    kind: SignalKind
    choice: int | None = 0
    label: bool | None = None
    score: float | None = None
    name: str | None = None
    edit: tuple[Message, ...] = ()
    over: int | None = None
    strength: float | None = None
    by: str | None = None
    comment: str | None = None
    shown: tuple[int, ...] = ()
    provenance: tuple[Provenance, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether a judge of ours said it (`palate judge`), and no person or log."""
        return self.by is not None and self.by.startswith(JUDGE)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping of what was said, without where it stood."""
        out = {
            name: getattr(self, name)
            for name in ("kind", "choice", "label", "score", "name", "over", "strength", "by")
        }
        out |= {"comment": self.comment, "edit": [m.to_dict() for m in self.edit]}
        out["shown"] = list(self.shown)
        return {name: value for name, value in out.items() if value not in (None, [])}

    @classmethod
    def from_dict(cls, raw: dict[str, Any], about: tuple[str, ...] = ()) -> Signal:
        """Inverse of `to_dict`; a mapping without `choice` means None."""
        edit = tuple(Message.from_dict(m) for m in raw.get("edit", ()))
        rest = {name: value for name, value in raw.items() if name not in {"edit", "shown"}}
        shown = tuple(raw.get("shown", ()))
        return cls(about=about, edit=edit, shown=shown, **{"choice": None, **rest})


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, the completions that branch from it, and a verdict where there is one."""

    prompt: tuple[Message, ...]
    completions: tuple[Completion, ...]
    verdict: Verdict | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    provenance: tuple[Provenance, ...] = ()

    @property
    def prompt_key(self) -> str:
        """Hash of the prompt and its tools: equal for equal prompts, whatever the answers.

        A text, which has no prompt, is hashed itself.
        """
        if not self.prompt and self.completions:
            return digest({"text": self.completions[0].content_key})
        return digest({"prompt": [m.to_dict() for m in self.prompt], "tools": list(self.tools)})

    @property
    def conversation(self) -> str:
        """Hash that the examples of one conversation share.

        By the first tag of `CONVERSATION_TAGS` that the row has; else by how it begins: the
        tools and the messages up to the first user turn. Conversations that begin with the same
        words are one then, which costs nothing: those words are what they share.
        """
        for tag in CONVERSATION_TAGS:
            if tag in self.tags:
                return digest({"tag": tag, "value": self.tags[tag]})
        users = [i for i, message in enumerate(self.prompt) if message.role == "user"]
        opening = self.prompt[: users[0] + 1] if users else self.prompt
        return digest({"opening": [m.to_dict() for m in opening], "tools": list(self.tools)})

    @property
    def id(self) -> str:
        """Twelve hex digits of the content's hash; stable across runs and machines."""
        body = {
            "prompt": self.prompt_key,
            "completions": [c.content_key for c in self.completions],
            "verdict": asdict(self.verdict) if self.verdict else None,
        }
        return digest(body)[:12]

    @property
    def prompt_judged(self) -> bool:
        """Whether its label is about the prompt itself, and there is no answer."""
        return any(not c.messages and c.label is not None for c in self.completions)

    @property
    def chosen(self) -> Completion:
        """The better completion of a pair."""
        if self.verdict is None:
            raise ValueError(f"example {self.id} has no verdict, so no chosen completion")
        return self.completions[self.verdict.better]

    @property
    def rejected(self) -> Completion:
        """The worse completion of a pair."""
        if self.verdict is None:
            raise ValueError(f"example {self.id} has no verdict, so no rejected completion")
        return self.completions[self.verdict.worse]

    @property
    def shape(self) -> Shape:
        """What a method can do with it.

        A verdict makes a pair, thumbs make it labelled, several unjudged answers a group,
        one answer a demonstration, and words without a prompt are text.
        """
        if not self.prompt:
            return "text"
        if self.verdict is not None:
            return "pair"
        if any(c.label is not None for c in self.completions):
            return "labelled"
        return "group" if len(self.completions) > 1 else "demonstration"

    def oriented(self, shape: str) -> Example:
        """The completions as a method of that shape reads them: chosen, rejected; or the one."""
        if shape == "pair":
            return replace(self, completions=(self.chosen, self.rejected), verdict=None)
        return replace(self, completions=self.completions[:1], verdict=None)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back to an equal example."""
        return {
            "id": self.id,
            "prompt": [m.to_dict() for m in self.prompt],
            "completions": [
                {
                    "messages": [m.to_dict() for m in c.messages],
                    "source": c.source,
                    "score": c.score,
                    "label": c.label,
                    "finish_reason": c.finish_reason,
                }
                for c in self.completions
            ],
            "verdict": asdict(self.verdict) if self.verdict else None,
            "tools": [dict(t) for t in self.tools],
            "tags": dict(self.tags),
            "provenance": [asdict(p) for p in self.provenance],
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Example:
        """Inverse of `to_dict`."""
        return cls(
            prompt=tuple(Message.from_dict(m) for m in raw["prompt"]),
            completions=tuple(
                Completion(
                    messages=tuple(Message.from_dict(m) for m in c["messages"]),
                    source=c["source"],
                    score=c["score"],
                    label=c["label"],
                    finish_reason=c["finish_reason"],
                )
                for c in raw["completions"]
            ),
            verdict=Verdict(**raw["verdict"]) if raw["verdict"] else None,
            tools=tuple(raw["tools"]),
            tags=dict(raw["tags"]),
            provenance=tuple(Provenance(**p) for p in raw["provenance"]),
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record of a row, with what names it in the system that it comes from.

    `ids` are ``NAMESPACE:ID``, the most telling first, for instance ``openai:chatcmpl-8xK`` or
    ``langfuse:trace/42``: two rows with an id in common are one interaction, and a `Signal` finds
    its answer by them. `user` is the end user, for deletion; it never reaches an `Example`.
    """

    record: Example | Signal
    ids: tuple[str, ...] = ()
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row, or an example, that was left out: where it stood, under which reason, and why."""

    source: str
    line: int
    reason: str
    detail: str
    excerpt: str = ""
    example_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping for the rejects file."""
        return asdict(self)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
