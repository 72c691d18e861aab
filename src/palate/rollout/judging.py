"""Rewards: every answer of a rollout is judged, or is counted as one on which the judge failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from palate.config import ConfigError
from palate.judge.build import build_pair_judge, build_scorer
from palate.judge.opinion import Answered, OpenPairJudge, OpenScorer, Question
from palate.losses.method import Method, Online
from palate.rollout.rows import Group, Spoken
from palate.sections.rollout import RolloutConfig


@dataclass(slots=True)
class Bench:
    """Gives the answers of groups their rewards, in place.

    With a `scorer` an answer's reward is its score. With a `pair_judge` it is a probability: to
    win against the answer of the reference or mixture that stands at its place, or (`ring`) the
    mean over all other answers to the prompt.
    """

    scorer: OpenScorer | None
    pair_judge: OpenPairJudge | None
    ring: bool
    unfinished_reward: float | None = None

    def judge(self, groups: Sequence[Group]) -> None:
        """Set reward, passed and failure of every answer that is one to be judged."""
        if self.scorer is not None:
            self._score(groups, self.scorer)
        elif self.pair_judge is not None and self.ring:
            self._each_against_all(groups, self.pair_judge)
        elif self.pair_judge is not None:
            self._each_against_its_own(groups, self.pair_judge)

    def judge_alone(self, groups: Sequence[Group]) -> None:
        """The same for a measurement: a pair judge holds each answer against the one beside it."""
        if self.scorer is not None:
            self._score(groups, self.scorer)
        elif self.pair_judge is not None:
            self._each_against_its_own(groups, self.pair_judge)

    def close(self) -> None:
        """Let go of what the judges hold."""
        for judge in (self.scorer, self.pair_judge):
            if judge is not None:
                judge.close()

    def _score(self, groups: Sequence[Group], scorer: OpenScorer) -> None:
        asked = [
            (group, spoken)
            for group in groups
            for spoken in (*group.own, *group.others)
            if not self._settled(spoken)
        ]
        said = scorer.score([Answered(g.example, s.text, s.finished) for g, s in asked])
        for (_, spoken), score in zip(asked, said, strict=True):
            spoken.reward, spoken.passed = score.value, score.passed
            spoken.failure = score.failure if score.value is None else None

    def _settled(self, spoken: Spoken) -> bool:
        """Whether its reward does not depend on the judge."""
        if spoken.finished or self.unfinished_reward is None:
            return False
        spoken.reward, spoken.passed = self.unfinished_reward, False
        return True

    def _each_against_all(self, groups: Sequence[Group], judge: OpenPairJudge) -> None:
        games = [
            (group, one, other)
            for group in groups
            for one, other in combinations([*group.own, *group.others], 2)
        ]
        self._play(games, judge)

    def _each_against_its_own(self, groups: Sequence[Group], judge: OpenPairJudge) -> None:
        games = [
            (group, one, other)
            for group in groups
            for one, other in zip(group.own, group.others, strict=True)
        ]
        self._play(games, judge)

    def _play(self, games: Sequence[tuple[Group, Spoken, Spoken]], judge: OpenPairJudge) -> None:
        """An answer's reward is the mean of what it won, of the games that have a verdict."""
        asked = [game for game in games if not _same(*game[1:])]
        said = judge.compare([Question(g.example, a.text, b.text) for g, a, b in asked])
        verdicts = {id(game): opinion for game, opinion in zip(asked, said, strict=True)}
        won: dict[int, list[float]] = {}
        spoken: dict[int, Spoken] = {}
        for game in games:
            _, one, other = game
            opinion = verdicts.get(id(game))
            wins = 0.5 if opinion is None else opinion.first_wins
            for who, share in ((one, wins), (other, None if wins is None else 1 - wins)):
                spoken[id(who)] = who
                if share is not None:
                    won.setdefault(id(who), []).append(share)
                elif opinion is not None:
                    who.failure = opinion.failure or "no verdict"
        for key, who in spoken.items():
            if key in won:
                who.reward, who.failure = sum(won[key]) / len(won[key]), None
            if self.unfinished_reward is not None and not who.finished:
                who.reward, who.failure = self.unfinished_reward, None


def _same(one: Spoken, other: Spoken) -> bool:
    """Equal answers are a tie, whoever judges."""
    return one.text == other.text


def bench_of(config: RolloutConfig, method: Method) -> Bench:
    """The recipe's judge, in the part that the method asks for; to be closed after use.

    A judge of pairs is asked about pairs where the method learns from them. Raises `ConfigError`
    where there is no judge, and `ValueError` as the judges do.
    """
    online = method.online
    assert online is not None, "the method samples"
    if online.judge == "none":
        if config.judge is not None:
            raise ConfigError(f"{method.name} asks no judge: leave rollout.judge out")
        return Bench(None, None, ring=False)
    if config.judge is None:
        raise ConfigError(
            f"{method.name} needs a judge: rollout.judge, for instance `judge: rules.py:good` (a "
            "function that takes the prompt and the answer)"
        )
    ring = online.against == "own"
    if _kind(online, method, config) == "pairs":
        return Bench(None, build_pair_judge(config.judge), ring, config.unfinished_reward)
    return Bench(build_scorer(config.judge), None, ring, config.unfinished_reward)


def _kind(online: Online, method: Method, config: RolloutConfig) -> Literal["pairs", "scores"]:
    if online.judge == "preference":
        return "pairs"
    assert config.judge is not None
    return "pairs" if method.shape == "pair" and config.judge.kind in {"llm", "local"} else "scores"
