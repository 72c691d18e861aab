"""From a recipe's judge to one that can be asked; ours by kind, others by their entry points."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from palate.judge.compare import ByScore
from palate.judge.errors import JudgeStopped
from palate.judge.fits import SchemaScorer, load_schema
from palate.judge.holding import content_of
from palate.judge.implicit import sides_of
from palate.judge.length import LengthScorer
from palate.judge.number import NumberScorer
from palate.judge.opinion import (
    Answered,
    Closing,
    OpenPairJudge,
    OpenScorer,
    Opinion,
    Question,
    Score,
)
from palate.judge.regular import PatternScorer
from palate.judge.rules import RuleScorer
from palate.records import digest
from palate.sections.judging import GROUP, KINDS, LOG_ODDS, JudgeConfig

if TYPE_CHECKING:
    from palate.judge.llm import LlmJudge
    from palate.judge.local import LocalJudge

VERSION = 1
"""Raised when judges of ours come to say other things about the same texts."""

_SINGLE: dict[str, Callable[[JudgeConfig], OpenScorer]] = {
    "rule": lambda c: RuleScorer(c.rule or "", name=c.label),
    "regex": lambda c: PatternScorer(c.pattern or "", absent=c.absent, name=c.label),
    "schema": lambda c: SchemaScorer(load_schema(c.json_schema or {}), name=c.label),
    "length": lambda c: LengthScorer(c.least, c.most, name=c.label),
    "number": lambda c: NumberScorer(c.label, c.answer_from),
}


def _llm(config: JudgeConfig) -> LlmJudge:
    from palate.judge.llm import LlmJudge  # httpx takes a tenth of a second

    return LlmJudge(config)


def _local(config: JudgeConfig) -> LocalJudge:
    from palate.judge.local import LocalJudge

    return LocalJudge(config)


def _reward(config: JudgeConfig) -> OpenScorer:
    from palate.judge.reward import RewardScorer

    return RewardScorer(config)


def _implicit(config: JudgeConfig) -> OpenScorer:
    from palate.judge.implicit import ImplicitScorer

    return ImplicitScorer(config)


_SINGLE |= {"reward": _reward, "implicit": _implicit}
_SIDES = {"reference", "beta"}  # what `sides_of` decides, of a judge that has them
_BOTH: dict[str, Callable[[JudgeConfig], LlmJudge | LocalJudge]] = {"llm": _llm, "local": _local}


def build_scorer(config: JudgeConfig) -> OpenScorer:
    """The judge of single answers that `config` describes; to be closed after use.

    Raises `ValueError` with the cure for a rule, a schema, a model that is not there, and
    `JudgeStopped` where it is asked and cannot go on.
    """
    if config.kind in _SINGLE:
        return _SINGLE[config.kind](config)
    if config.kind in _BOTH:
        return _BOTH[config.kind](config)
    judge = _foreign(config)
    if not hasattr(judge, "score"):
        raise ValueError(f"a judge of kind {config.kind} compares two answers, and scores none")
    return cast("OpenScorer", judge)


def build_pair_judge(config: JudgeConfig) -> OpenPairJudge:
    """The judge of two answers that `config` describes; to be closed after use.

    One that knows single answers only compares their scores. Raises as `build_scorer` does.
    """
    if config.kind in _SINGLE:
        scorer = _SINGLE[config.kind](config)
        return ByScore(scorer, bradley_terry=config.kind in LOG_ODDS, tie=config.tie)
    if config.kind in _BOTH:
        return _BOTH[config.kind](config)
    judge = _foreign(config)
    return judge if hasattr(judge, "compare") else ByScore(judge)


def identity(config: JudgeConfig) -> str:
    """Hash of all that decides what the judge says: settings, and the files that they name.

    Equal identities give equal verdicts on equal texts, as far as the judge itself repeats
    them. Its name, time limits, prices and caches do not count.
    """
    kept = config.model_dump(mode="json", exclude={"name", "device", "server", *_SIDES})
    if config.server is not None:
        kept["server"] = config.server.model_dump(include={"url", "model", "extra", "max_tokens"})
    if config.kind == "rule":
        kept["file"] = _rule_hash(config.rule or "")
    if config.model is not None:
        kept["model"] = content_of(config.model)
    if config.kind == "implicit":
        sides = sides_of(config)
        kept |= {"reference": content_of(sides.reference), "beta": sides.beta}
        kept |= {"template": sides.template}
    if config.kind == "schema":
        kept["json_schema"] = load_schema(config.json_schema or {})
    return digest({"version": VERSION, **kept})[:32]


def _rule_hash(spec: str) -> str | None:
    """Hash of the file that holds the rule; None where it has none, as in a built-in module."""
    home = spec.rpartition(":")[0]
    if not home.endswith(".py"):
        try:
            found = importlib.util.find_spec(home)
        except (ImportError, ValueError):
            return None
        home = (found.origin if found else None) or ""
    path = Path(home)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


class Foreign(Closing):
    """Another package's judge: what it says is checked, as nobody here has tested it."""

    def __init__(self, judge: Any, name: str) -> None:
        self._judge, self.name = judge, name
        if hasattr(judge, "score"):
            self.score = self._score
        if hasattr(judge, "compare"):
            self.compare = self._compare

    def close(self) -> None:
        """Close the judge, if it can be closed."""
        close = getattr(self._judge, "close", None)
        if close is not None:
            close()

    def _score(self, answers: Sequence[Answered]) -> list[Score]:
        return cast("list[Score]", self._checked(self._judge.score, answers, Score))

    def _compare(self, questions: Sequence[Question]) -> list[Opinion]:
        said = cast("list[Opinion]", self._checked(self._judge.compare, questions, Opinion))
        for opinion in said:
            if opinion.first_wins is not None and not 0 <= opinion.first_wins <= 1:
                raise JudgeStopped(
                    f"the judge '{self.name}' said P = {opinion.first_wins!r}: no probability"
                )
        return said

    def _checked(
        self, ask: Callable[[Any], Sequence[Any]], asked: Sequence[Any], kind: type
    ) -> list[Any]:
        try:
            said = list(ask(asked))
        except JudgeStopped:
            raise
        except Exception as error:  # whatever somebody's program raises
            raise JudgeStopped(
                f"the judge '{self.name}' failed: {type(error).__name__}: {error}"
            ) from error
        if len(said) != len(asked) or not all(isinstance(one, kind) for one in said):
            raise JudgeStopped(
                f"the judge '{self.name}' was asked {len(asked)} times and must return as many "
                f"objects of palate.judge.opinion.{kind.__name__}, in order"
            )
        return said


def _foreign(config: JudgeConfig) -> Any:
    """Another package's judge: its entry point is a function of the config."""
    point = next((p for p in entry_points(group=GROUP) if p.name == config.kind), None)
    if point is None or config.kind in KINDS:
        raise ValueError(f"no judge of kind {config.kind} is installed")
    whose = f"the judge '{config.kind}' of {point.dist.name if point.dist else point.value}"
    try:
        judge = point.load()(config)
    except Exception as error:  # whatever somebody's module does when it is run
        raise ValueError(f"{whose} cannot be made: {type(error).__name__}: {error}") from error
    if not (hasattr(judge, "score") or hasattr(judge, "compare")):
        raise ValueError(f"{whose} is neither a Scorer nor a PairJudge (palate.judge.opinion)")
    return Foreign(judge, config.label)
