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

from palate.config import load_config
from palate.judge.holding import BUDGET, Held, hold_language_model
from palate.judge.opinion import Answered, Closing, Score
from palate.judge.rendering import scores_of
from palate.sections import JudgeConfig

if TYPE_CHECKING:
    from palate.tokens.render import Rendered

_BETA = 0.1  # what DPO's is where a recipe does not say


@dataclass(frozen=True, slots=True)
class Sides:
    """The policy, the model that it moved from, and β: as set, else as in the run's recipe."""

    policy: str
    reference: str
    beta: float


def sides_of(config: JudgeConfig) -> Sides:
    """Raises `ValueError` with the cure where nothing says what the policy was trained from."""
    assert config.model is not None
    recipe = Path(config.model).expanduser() / "config.yaml"
    run = load_config(recipe) if recipe.is_file() else None
    if run is not None and run.stages:
        raise ValueError(f"{config.model} has stages: name the folder of the stage that judges")
    reference, beta = config.reference, config.beta
    if reference is None and run is not None and run.adapter.path is None:
        reference = run.model.path
    if reference is None:
        raise ValueError(
            "a judge of kind implicit needs reference, the model that its model was trained from "
            "(of a run its base is taken, unless it began from an adapter)"
        )
    if beta is None:
        method = run.method if run is not None else {}
        said = method.get("beta") if isinstance(method, dict) else None
        beta = float(said) if isinstance(said, int | float) else _BETA
    return Sides(config.model, reference, beta)


class ImplicitScorer(Closing):
    """Scores are log-odds, as a reward model's: only differences mean something.

    The answer's end of turn counts; of an answer that was cut off, the tokens that there are.
    """

    def __init__(self, config: JudgeConfig) -> None:
        sides = sides_of(config)
        self.name, self._beta = config.label, sides.beta
        policy = hold_language_model(sides.policy, config.device)
        reference = hold_language_model(sides.reference, config.device)
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
