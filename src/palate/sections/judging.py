"""Who says how good an answer is: a rule, a trained reward model, a language model."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from palate.sections.section import Section
from palate.sections.serving import ServerConfig

GROUP = "palate.judges"
"""Entry points through which other packages bring judges of their own."""

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rule": (("rule",), ()),
    "regex": (("pattern",), ("absent",)),
    "schema": (("json_schema",), ()),
    "length": ((), ("least", "most")),
    "number": ((), ("answer_from",)),
    "reward": (("model",), ("device", "tie")),
    "implicit": (("model",), ("reference", "beta", "device", "tie")),
    "llm": (("server",), ("rubric", "reply", "soft", "tie")),
    "local": (("model",), ("rubric", "device", "tie")),
}
"""Of each kind of ours: the fields that it needs, and those that it may have beside `name`."""


LOG_ODDS = {"reward", "implicit"}
"""Kinds whose scores have no zero of their own: only the difference of two means something."""


class JudgeConfig(Section):
    """One judge; a plain text in its place is a rule."""

    kind: str = Field(
        "rule",
        description="`rule` (a Python function), `regex`, `schema` (JSON Schema), `length` (in "
        "words), `number` (the exact final number), `reward` (a trained reward model), "
        "`implicit` (what a policy of DPO learned of the pairs), `llm` (a model behind a server), "
        "`local` (a model in this process), or the name of a judge that another installed package "
        "brings.",
    )
    name: str | None = Field(
        None, description="Name under which its verdicts are kept; default: made of its settings."
    )
    rule: str | None = Field(
        None, description="`rule`: the function, as `module:function` or `file.py:function`."
    )
    pattern: str | None = Field(
        None,
        description="`regex`: pattern that an answer must hold somewhere, in the syntax of the "
        "package regex, which is Python's and more.",
    )
    absent: bool = Field(
        False, description="`regex`: an answer passes if the pattern is not in it."
    )
    json_schema: str | dict[str, Any] | None = Field(
        None,
        description="`schema`: the JSON Schema that an answer must fit, itself or as the path of "
        "a JSON file.",
    )
    least: int | None = Field(None, ge=1, description="`length`: fewest words.")
    most: int | None = Field(None, ge=1, description="`length`: most words.")
    answer_from: str = Field(
        "reference",
        description="`number`: where the right number stands: `reference`, the answer that the "
        "data hold (of a pair the chosen one), or `tag:NAME`, a field of the row's metadata.",
    )
    model: str | None = Field(
        None,
        description="`reward`: folder of a run of method reward, or of what it shipped. "
        "`implicit`: folder of a run of DPO or its relatives, or a model that was so trained. "
        "`local`: a model as in `model.path`.",
    )
    reference: str | None = Field(
        None,
        description="`implicit`: the model that `model` was trained from; default: of a run, what "
        "its recipe begins with.",
    )
    beta: float | None = Field(
        None,
        gt=0,
        description="`implicit`: β of log π − log π_ref; default: that of the run's recipe and "
        "method, or 0.1 of a model that is no run. It scales scores, and decides how sure a "
        "comparison is (so which are ties), but never which answer is better.",
    )
    device: str = Field(
        "auto", description="`reward`, `implicit`, `local`: `auto`, `cpu`, `cuda`, `cuda:N`."
    )
    server: ServerConfig | None = Field(
        None, description="`llm`: where the model is, and how much may be asked of it."
    )
    rubric: str | None = Field(
        None,
        description="`llm`, `local`: what makes an answer good, in words for the model; default: "
        "helpful, correct, honest and clear.",
    )
    reply: Literal["letter", "json"] = Field(
        "letter",
        description="`llm`: how the verdict is asked for: exactly one letter or number, or JSON "
        "under a schema (`response_format`), for servers that enforce one.",
    )
    soft: bool = Field(
        True,
        description="`llm`: take the probabilities of the verdict's letters where the server tells "
        "them (`top_logprobs`), and the letter alone where it does not.",
    )
    tie: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="`reward`, `implicit`, `llm`, `local`: two answers tie where P(the first is "
        "better) is so close to ½, as a small model's often is; 0: only at ½.",
    )
    options: dict[str, Any] = Field(
        {}, description="Settings of a judge that another package brings; its own to check."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_rule(cls, value: object) -> object:
        return {"kind": "rule", "rule": value} if isinstance(value, str) else value

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        others = {point.name for point in entry_points(group=GROUP)} - set(KINDS)
        if value in KINDS or value in others:
            return value
        close = difflib.get_close_matches(value, [*KINDS, *others], n=1, cutoff=0.5)
        there = f"did you mean '{close[0]}'?" if close else f"valid: {', '.join([*KINDS, *others])}"
        raise ValueError(f"no judge is of kind '{value}'; {there}")

    @field_validator("answer_from")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if value == "reference" or value.removeprefix("tag:") not in {"", value}:
            return value
        raise ValueError("answer_from is `reference` or `tag:NAME`")

    @model_validator(mode="after")
    def _what_the_kind_needs(self) -> JudgeConfig:
        needed, optional = KINDS.get(self.kind, ((), ("options",)))
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a judge of kind {self.kind} needs {', '.join(missing)}")
        mine = {"kind", "name", *needed, *optional}
        fields = type(self).model_fields
        foreign = [
            name
            for name, field in fields.items()
            if name not in mine and getattr(self, name) != field.default
        ]
        if foreign:
            rest = ", ".join([*needed, *optional]) or "nothing"
            raise ValueError(f"a judge of kind {self.kind} has {rest}, and no {', '.join(foreign)}")
        if self.kind == "length":
            self._check_length()
        return self

    def _check_length(self) -> None:
        if self.least is None and self.most is None:
            raise ValueError("a judge of kind length needs least, most or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"no text has at least {self.least} and at most {self.most} words")

    @property
    def label(self) -> str:
        """The name under which its verdicts are kept."""
        if self.name:
            return self.name
        about = {
            "rule": (self.rule or "").rpartition(":")[2],
            "reward": (self.model or "").rstrip("/").rpartition("/")[2],
            "implicit": (self.model or "").rstrip("/").rpartition("/")[2],
            "local": (self.model or "").rstrip("/").rpartition("/")[2],
            "llm": self.server.model if self.server else "",
        }.get(self.kind)
        return f"{self.kind}:{about}" if about else self.kind
