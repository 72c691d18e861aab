"""The pipelines that are set side by side on the support desk, and where their runs lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DESK = Path("examples/support_desk")
RATE = 2e-4


@dataclass(frozen=True)
class Stage:
    """A training: its recipe, what is set beside it, and the steps whose checkpoints answer.

    They are multiples of the first.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """What leads from the pairs to a policy; `models` stand in memory while it trains."""

    label: str
    stages: tuple[Stage, ...]
    models: str


REWARD = Stage("reward.yaml")
DIRECT = (4, 8, 12, 16, 20, 36, 68, 136)
ONLINE = (8, 16, 24, 32)
PIPELINES = (
    Pipeline(
        "dpo",
        (Stage("recipe.yaml", ("train.epochs=5", "train.max_steps=136"), DIRECT),),
        "policy",
    ),
    Pipeline("ppo", (REWARD, Stage("ppo.yaml", (), ONLINE)), "policy, reward, value head"),
    Pipeline(
        "grpo",
        (REWARD, Stage("ppo.yaml", ("method={name: grpo, beta: 0.02}",), ONLINE)),
        "policy, reward",
    ),
)


def names(one: Pipeline, rate: float, seed: int) -> list[str]:
    """The folders of the stages: a seed's reward model serves all, at the recipe's own rate."""
    return [*(["reward-" + str(seed)] * (len(one.stages) - 1)), f"{one.label}-{rate:g}-{seed}"]


def note_of(folder: Path) -> Path:
    """What is written about a stage when it has ended."""
    return folder.parent / f"{folder.name}.json"
