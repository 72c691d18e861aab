"""An online task on a tiny model: six steps, prompts of unequal length, a judge of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.tiny import save_tiny

from palate.config import RunConfig, build_config
from palate.judge.compare import ByScore
from palate.judge.opinion import Answered, Score
from palate.losses.registry import method_of
from palate.progress import Bar, Quiet
from palate.records import Completion, Example, Message
from palate.rollout.assemble import assemble_online
from palate.rollout.judging import Bench
from palate.train.setup import set_up
from palate.train.task import Task

STEPS = 6
MODEL = "tiny-online"


class Letters:
    """More letters are better; an answer of letters alone passes."""

    name = "letters"

    def score(self, answers: Sequence[Answered]) -> list[Score]:
        """The share of letters."""
        return [Score(share(one.text), share(one.text) == 1) for one in answers]

    def close(self) -> None:
        """Nothing to let go of."""


def share(text: str) -> float:
    return sum(c.isalpha() for c in text) / max(1, len(text))


def example(number: int) -> Example:
    """A prompt, and what one may say to it."""
    prompt = (Message("user", f"Say {number}" + "." * (number % 4)),)
    return Example(prompt, (Completion((Message("assistant", f"word {number}"),)),))


def bench_for(name: str, scorer: Any = None) -> Bench:
    """The judge in the part that the method asks for."""
    scorer = scorer or Letters()
    if name == "spin":
        return Bench(None, None, ring=False)
    if name in {"spo", "sppo"}:
        return Bench(None, ByScore(scorer), ring=True)
    if name == "nash-md":
        return Bench(None, ByScore(scorer), ring=False)
    return Bench(scorer, None, ring=False)


def recipe(folder: Path, method: Any, **settings: Any) -> RunConfig:
    """A recipe of six steps; `rollout`, `train` and `adapter` are added to what stands here."""
    name = method if isinstance(method, str) else method["name"]
    model = folder.parent / MODEL
    if not model.exists():
        save_tiny(model)
    rollout = {"prompts": 3, "answers": 3, "max_new_tokens": 5, **settings.get("rollout", {})}
    if name != "spin":
        rollout = {"judge": "nobody.py:asks", **rollout}
    train = {"max_steps": STEPS, "epochs": 50, "batch_size": 4, "eval_every": 2}
    return build_config(
        {
            "name": folder.name,
            "out": str(folder.parent),
            "seed": 5,
            "model": str(model),
            "data": {"path": "unread.jsonl", "max_length": 128},
            "method": method,
            "adapter": {"kind": "full", "rank": 4, **settings.get("adapter", {})},
            "optim": {"lr": 5e-3, "schedule": "constant", "warmup": 0.0},
            "train": {"precision": "fp32", **train, **settings.get("train", {})},
            "evaluate": {"samples": 2},
            "rollout": rollout,
        }
    )


def make_task(
    folder: Path,
    method: Any,
    *,
    scorer: Any = None,
    continues: bool = False,
    bars: Callable[[str, int], AbstractContextManager[Bar]] | None = None,
    prompts: int = 8,
    **settings: Any,
) -> Task:
    """The task that a run of this method has, and nothing of the run around it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = recipe(folder, method, **settings)
    learner = set_up(config, folder, continues, Quiet())
    chosen = method_of(config)
    data = [example(i) for i in range(prompts)], [example(i) for i in range(20, 22)]
    bench = bench_for(chosen[0].name, scorer)
    return assemble_online(
        config, folder, learner, chosen, data, bench, Quiet(), bars or Quiet().bar
    )
