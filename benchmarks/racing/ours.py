"""Palate's side of the race: one process that trains as `palate train` does.

    python -m racing.ours ENTRY.json SAMPLE.json

The set-up, the reference pass and the loop are the ones of a run; only the examples come
from the course, nothing is held out, and the process ends before the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .course import Course, Pair, digest, read_course
from .sample import Entry, Sample, limit_memory, read_entry, resident_peak, write


class _Finished(Exception):
    """The last step is done; what a run does afterwards is not raced."""


def main() -> None:
    """Train as the entry says and write what was measured."""
    from palate.machine import calm_threads

    calm_threads()
    entry = read_entry(Path(sys.argv[1]))
    limit_memory(entry.limit)
    with tempfile.TemporaryDirectory() as folder:
        write(train(entry, read_course(Path(entry.course)), Path(folder)), Path(sys.argv[2]))


def as_example(pair: Pair, name: str) -> Any:
    """The pair as what Palate's renderer makes."""
    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch

    branches = tuple(
        Branch((*pair.prompt, *answer), (False,) * len(pair.prompt) + (True,) * len(answer))
        for answer in (pair.chosen, pair.rejected)
    )
    return Rendered(name, len(pair.prompt), branches)


def as_triple(example: Any) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """The ids by what is trained on: prompt, chosen, rejected; refuses any other mask."""
    prompt = list(example.prompt_ids)
    answers = []
    for branch in example.branches:
        if list(branch.mask) != [index >= len(prompt) for index in range(len(branch.ids))]:
            raise ValueError(
                "a race needs pairs whose whole answers, and nothing else, are trained on"
            )
        answers.append(list(branch.ids[len(prompt) :]))
    chosen, rejected = answers
    return prompt, chosen, rejected


def recipe(entry: Entry, course: Course, folder: Path) -> Any:
    """The run's config: defaults except for what both sides must share."""
    from palate.config import build_config

    return build_config(
        {
            "name": "race",
            "out": str(folder),
            "model": entry.model,
            "data": {"path": "the course", "heldout": 0},
            "method": {"name": "dpo", "beta": 0.1},
            "adapter": {"kind": entry.adapter, "rank": entry.rank, "alpha": entry.alpha},
            "optim": {
                "lr": entry.lr,
                "schedule": "constant",
                "warmup": 0.0,
                "eps": entry.eps,
            },
            "train": {
                "batch_size": course.pairs_per_step,
                "layout": entry.layout,
                "tokens_per_microbatch": entry.tokens or "auto",
                "order": "examples",
                "eval_every": 0,
                "save_every": 0,
                "precision": "fp32" if entry.precision == "fp32" else "bf16",
            },
        }
    )


def train(entry: Entry, course: Course, folder: Path) -> Sample:
    """The run's own set-up, reference pass and loop over the course's steps."""
    from palate.losses.registry import find
    from palate.model.adapters import trainable
    from palate.progress import Quiet
    from palate.train.loop import run_loop
    from palate.train.parallel import ALONE
    from palate.train.setup import make_split, set_up
    from palate.train.task import Split, Task, Watcher
    from palate.train.trial import settle

    config = recipe(entry, course, folder)
    config.folder.mkdir()
    examples = [as_example(pair, str(row)) for row, pair in enumerate(course.pairs)]
    sample = Sample(digest=digest(as_triple(example) for example in examples))
    method, params = find(config.method)
    learner = set_up(config, config.folder, False, Quiet())
    if entry.precision == "pure":
        make_pure(learner.policy.model)
    chosen = (method, params)
    budget = settle(config, config.folder, learner, chosen, examples, Quiet(), ALONE)
    began = now(learner.policy.device)
    with no_cache(folder):
        split = make_split(config, learner, method, examples, "reference", Quiet(), budget.first)
    sample.reference_seconds = now(learner.policy.device) - began
    sample.reference_pairs = len(examples)
    if entry.gate is not None:
        perturb(learner.adapted or learner.policy.model, entry)
    marks = [now(learner.policy.device)]

    def on_step(step: int, total: int, means: dict[str, float]) -> None:
        marks.append(now(learner.policy.device))
        sample.seconds.append(marks[-1] - marks[-2])
        sample.losses.append(means["loss"])
        if step == total:
            raise _Finished

    task = Task(
        policy=learner.policy,
        method=method,
        params=params,
        train=split,
        heldout=Split([], None),
        optim=config.optim,
        config=config.train,
        lr=learner.lr,
        seed=config.seed,
        folder=config.folder,
        budget=budget,
    )
    with contextlib.suppress(_Finished):
        run_loop(task, resume=False, watch=Watcher(on_step=on_step))
    sample.facts["tokens_per_microbatch"] = budget.first
    finish(sample, entry, course, config, learner, trainable(learner.policy))
    return sample


@contextlib.contextmanager
def no_cache(folder: Path) -> Iterator[None]:
    """Inside, the reference is computed, not found."""
    before = os.environ.get("PALATE_CACHE")
    os.environ["PALATE_CACHE"] = str(folder)
    yield
    del os.environ["PALATE_CACHE"]
    if before is not None:
        os.environ["PALATE_CACHE"] = before


def now(device: Any) -> float:
    """A clock that waits for the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def make_pure(model: Any) -> None:
    """bf16 for everything that is not trained; adapters stay fp32, as peft keeps them for TRL."""
    import torch

    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


def perturb(model: Any, entry: Entry) -> None:
    """The gate's start: a random adapter, written for the other side, or every matrix scaled."""
    import torch
    from safetensors.torch import save_file

    from .trl_side import scale_body

    with torch.no_grad():
        if entry.adapter == "full":
            scale_body(model)
            return
        weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        generator = torch.Generator().manual_seed(0)
        for name, parameter in sorted(weights.items()):
            if "lora_B" in name:
                noise = torch.randn(parameter.shape, generator=generator) * 0.01
                parameter.copy_(noise)
        save_file({n: p.detach().cpu().contiguous() for n, p in weights.items()}, str(entry.gate))


def finish(
    sample: Sample, entry: Entry, course: Course, config: Any, learner: Any, weights: dict[str, Any]
) -> None:
    """What was computed, what it took, and what it would take at least."""
    import torch
    import transformers

    from palate import __version__
    from palate.model.cost import anatomy_of, forward_flops, training_flops, work_of
    from palate.model.load import load_config_only
    from palate.model.peak import measure_peak
    from palate.tokens.tree import build_forest
    from palate.train.metrics import read_metrics

    device, plan = learner.policy.device, learner.plan
    cuda = device.type == "cuda"
    sample.peak_bytes = torch.cuda.max_memory_allocated(device) if cuda else resident_peak()
    lines = [m for m in read_metrics(config.folder / "metrics.jsonl") if m["kind"] == "train"]
    sample.computed = [line["unique_tokens"] for line in lines]
    sample.path = [line["path_tokens"] for line in lines]
    anatomy = anatomy_of(load_config_only(entry.model))
    examples = [as_example(pair, str(row)) for row, pair in enumerate(course.pairs)]

    def least(rows: Sequence[int]) -> Any:
        return work_of(build_forest([b for row in rows for b in examples[row].branches]))

    lora = entry.adapter == "lora"
    works = [least(step) for step in course.steps]
    sample.unique = [int(work.unique) for work in works]
    sample.flops = [training_flops(anatomy, work, lora=lora) for work in works]
    everything = least(range(len(examples)))
    sample.reference_flops = forward_flops(anatomy, everything)
    dtype = torch.float32 if entry.precision == "fp32" else torch.bfloat16
    sample.matmul_peak = measure_peak(dtype, str(device), budget=2.0)
    sample.facts |= {
        "palate": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": plan.device,
        "layout": plan.layout,
        "layout_reason": plan.layout_reason,
        "threads": torch.get_num_threads(),
        "trained": sum(w.numel() for w in weights.values()),
    }


if __name__ == "__main__":
    main()
