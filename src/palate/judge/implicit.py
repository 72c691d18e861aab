"""What preference optimisation left in a policy, as a judge: its implicit reward.

    r(x, y) = β · [log π(y | x) − log π_ref(y | x)]

DPO fits its policy so that σ(r(x, y₁) − r(x, y₂)) is the probability that y₁ is preferred
(Rafailov et al. 2023, section 4), so the policy of pairs is a reward model of them as well, with
two models to hold. In the exact world it ranks more held-out pairs right than a reward model of
the same pairs (docs/experiments/ranking.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palate.config import RunConfig, load_config
from palate.judge.holding import BUDGET, Held, hold_language_model
from palate.judge.opinion import Answered, Closing, Score
from palate.judge.rendering import scores_of
from palate.sections import JudgeConfig

if TYPE_CHECKING:
    from palate.tokens.render import Rendered

_BETA = 0.1  # DPO's own, for a model of which no recipe is there


@dataclass(frozen=True, slots=True)
class Sides:
    """The policy, the model that it moved from, and β: as set, else as in the run's recipe.

    `template` and `trust_remote_code` are the run's, too: answers are read as in training.
    """

    policy: str
    reference: str
    beta: float
    template: str = "auto"
    trust_remote_code: bool = False


def sides_of(config: JudgeConfig) -> Sides:
    """Raises `ValueError` with the cure where a log-ratio would be no reward, or is not known."""
    assert config.model is not None
    recipe = Path(config.model).expanduser() / "config.yaml"
    if not recipe.is_file():
        if config.reference is None:
            raise ValueError(
                f"{config.model} is no run, so the judge needs reference: the model that it was "
                "trained from"
            )
        return Sides(config.model, config.reference, config.beta or _BETA)
    run = load_config(recipe)
    if run.stages:
        raise ValueError(f"{config.model} has stages: name the folder of the stage that judges")
    beta = config.beta or _beta_of(run, config.model)
    reference = config.reference or run.model.path
    if config.reference is None and run.adapter.path is not None:
        raise ValueError(
            f"{config.model} began from the adapter {run.adapter.path}, so the judge needs "
            "reference: the model with that adapter merged (the folder model/ of the run that "
            "trained it)"
        )
    return Sides(config.model, reference, beta, run.data.template, run.model.trust_remote_code)


def _beta_of(run: RunConfig, name: str) -> float:
    """β of the first summand whose policy is held to a reference by summed log-probs."""
    from palate.losses.registry import find

    summands = run.method if isinstance(run.method, list) else [run.method]
    for summand in summands:
        terms = {key: value for key, value in summand.items() if key != "weight"}
        method, params = find(terms, sampled=run.rollout is not None)
        if method.head == "scalar":
            raise ValueError(f"{name} scores answers and writes none: ask it as kind reward")
        beta = getattr(params, "beta", None)
        if method.reference and method.tokens == "sum" and isinstance(beta, float) and beta > 0:
            return beta
    names = ", ".join(str(summand["name"]) for summand in summands)
    raise ValueError(
        f"{name} was trained by {names}, which says no β of a summed log-ratio: set beta, or take "
        "a run of dpo or a relative"
    )


class ImplicitScorer(Closing):
    """Scores are log-odds, as a reward model's: only differences mean something.

    The answer's end of turn counts; of an answer that was cut off, the tokens that there are.
    """

    def __init__(self, config: JudgeConfig) -> None:
        sides = sides_of(config)
        self.name, self._beta = config.label, sides.beta
        how = (config.device, sides.template, sides.trust_remote_code)
        policy = hold_language_model(sides.policy, *how)
        try:
            reference = hold_language_model(sides.reference, *how)
        except ValueError as error:
            raise ValueError(f"the judge's reference (set it as reference): {error}") from error
        if policy.renderer.tokenizer.get_vocab() != reference.renderer.tokenizer.get_vocab():
            raise ValueError(
                f"{sides.policy} and {sides.reference} have other tokens: a log-ratio needs a "
                "reference that the policy was trained from"
            )
        self._held: tuple[Held, Held] | None = (policy, reference)

    def close(self) -> None:
        """Let go of both models."""
        self._held = None

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """One score each, in order."""
        assert self._held is not None, "a judge is not asked after it is closed"
        policy, reference = self._held

        def ratios(rendered: list[Rendered]) -> list[float]:
            from palate.model.score import score

            mine = score(policy.policy, rendered, BUDGET)
            theirs = score(reference.policy, rendered, BUDGET)
            pairs = zip(mine, theirs, strict=True)
            return [self._beta * float((a.double() - b.double()).sum()) for a, b in pairs]

        return scores_of(policy, answers, ratios)
