"""A training task on a tiny model: six steps, an uneven last batch, a method with a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.tiny import VOCABULARY, tiny_model
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.config import AdapterConfig, OptimConfig, TrainConfig
from palate.losses.batch import Context, LossOutput, Pairs, State
from palate.losses.dpo import DPO, reward_metrics
from palate.losses.registry import METHODS, Method
from palate.model.adapters import attach, trainable
from palate.model.load import to_compute
from palate.model.policy import Policy
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.assemble import resolved
from palate.train.budget import Budget
from palate.train.folder import Plan
from palate.train.loop import run_loop
from palate.train.metrics import read_metrics
from palate.train.mismatch import mismatched, mismatched_with
from palate.train.shapes import MicroBatch
from palate.train.task import Interrupted, Mismatches, Progress, Split, Task, Watcher

STEPS = 6  # 10 examples, 4 a step, 2 epochs: batches of 4, 4, 2


def ids(count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=draw).tolist()


def pair(index: int) -> Rendered:
    prompt = [*ids(9, 7), *ids(2 + index % 3, 100 + index)]
    branches = []
    for k in range(2):
        answer = ids(3 + (index + 2 * k) % 4, 200 + 10 * index + k)
        branches.append(Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer)))
    return Rendered(str(index), len(prompt), tuple(branches))


class FixedReference:
    """Values drawn once for each row."""

    def __init__(self, examples: list[Rendered], draw: int = 0, below: float = 0.0) -> None:
        counts = [sum(sum(b.mask) for b in one.branches) for one in examples]
        self.by_row = [
            -below - 5 * torch.rand(count, generator=_generator(row + 100 * draw))
            for row, count in enumerate(counts)
        ]

    def __call__(self, micro: MicroBatch) -> Tensor:
        return torch.cat([self.by_row[row] for row in micro.rows])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _moving_loss(pairs: Pairs, params: DPO, context: Context) -> LossOutput:
    """DPO measured from a running mean of the margins, so that a lost state is noticed."""
    h = pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B
    loss_B = -logsigmoid(params.beta * (h - context.state["mean"]))
    return LossOutput(loss_B, reward_metrics(pairs, params.beta))


def _moving_advance(pairs: Pairs, params: DPO, state: State) -> State:
    h = pairs.chosen.log_ratio_B - pairs.rejected.log_ratio_B
    return {"mean": 0.9 * state["mean"] + 0.1 * h.mean()}


MOVING: Method = replace(
    METHODS["dpo"],
    name="moving",
    loss=_moving_loss,
    initial_state=lambda _: {"mean": torch.zeros((), dtype=torch.float64)},
    advance=_moving_advance,
)


def make_task(
    folder: Path,
    *,
    kind: str = "lora",
    precision: str = "fp32",
    method: Method = MOVING,
    budget: Budget | None = None,
    **train: Any,
) -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_model()
    attach(model, AdapterConfig(kind=kind, rank=4), seed=3)  # type: ignore[arg-type]
    to_compute(model, precision)  # type: ignore[arg-type]
    policy = Policy(model, precision=precision)  # type: ignore[arg-type]
    examples, heldout = [pair(i) for i in range(10)], [pair(i) for i in range(10, 13)]
    settings = {"batch_size": 4, "epochs": 2.0, "eval_every": 2}
    tokens = train.pop("tokens_per_microbatch", 40)
    return Task(
        policy=policy.eval(),
        method=method,
        params=method.params(),
        train=Split(examples, FixedReference(examples) if method.reference else None),
        heldout=Split(heldout, FixedReference(heldout) if method.reference else None),
        optim=OptimConfig(weight_decay=0.1),
        config=TrainConfig(**{**settings, **train}),
        lr=5e-3,
        seed=5,
        folder=folder,
        budget=budget or Budget(make_plan(tokens)),
    )


def thumb(index: int) -> Rendered:
    """The first answer of a pair, with a thumb; every other example has its prompt's beginning."""
    one = pair(index)
    return replace(one, branches=one.branches[:1], desirable=index % 3 != 0)


def make_thumbs_task(folder: Path, count: int = 10, **train: Any) -> Task:
    """The same for KTO: ten thumbs, and mismatched examples for each of the two epochs."""
    task = make_task(folder, method=METHODS["kto"], **train)
    examples = [thumb(i) for i in range(count)]
    heldout = [thumb(i) for i in range(count, count + 3)]

    def split(rows: list[Rendered], draw: int) -> Split:
        return Split(rows, FixedReference(rows, draw, below=15.0))  # or z₀ were 0

    others = [split(mismatched(examples, task.seed, epoch), 1 + epoch) for epoch in range(2)]
    over = split(mismatched_with(heldout, examples, task.seed), 3)
    return replace(
        task,
        params=resolved(task.method, task.params, examples),
        train=split(examples, 0),
        heldout=split(heldout, 0),
        mismatches=Mismatches(others, over),
    )


def make_plan(tokens: int) -> Plan:
    return Plan("tree", "", "fp32", "cpu", 1, tokens, "")


def stopping_after(step: int) -> Callable[[], bool]:
    """True when asked for the `step`-th time."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= step

    return should_stop


def train(task: Task, *, resume: bool = False, stop_after: int | None = None) -> Progress:
    """Run the loop; with `stop_after` it must be interrupted."""
    if stop_after is None:
        return run_loop(task, resume=resume, watch=Watcher())
    try:
        run_loop(task, resume=resume, watch=Watcher(should_stop=stopping_after(stop_after)))
    except Interrupted as stopped:
        return Progress(stopped.step)
    raise AssertionError("the run was not interrupted")


def weights_of(task: Task) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in trainable(task.policy).items()}


Outcome = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], list[dict[str, Any]]]


def outcome(task: Task) -> Outcome:
    """Weights, moments, the method's state, and the metrics without their times."""
    last = task.folder / "checkpoints" / f"step-{STEPS}"
    lines = read_metrics(task.folder / "metrics.jsonl")
    for line in lines:
        line.pop("seconds", None)
    return (
        weights_of(task),
        load_file(last / "optimizer.safetensors"),
        load_file(last / "method.safetensors"),
        lines,
    )


def assert_same(found: Outcome, expected: Outcome) -> None:
    for part, other in zip(found[:3], expected[:3], strict=True):
        assert part.keys() == other.keys()
        for name, tensor in part.items():
            assert torch.equal(tensor, other[name]), name
    assert found[3] == expected[3]
