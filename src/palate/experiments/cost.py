"""How do time and memory grow?

One forward and backward pass of DPO pairs through a model with random weights, every weight
trained, in a fresh process: by the length of prompts and of answers, by the pairs that share a
prompt, and by the size of the model, laid out as a tree and as padded rows. Beside each stands
what is computed (docs/performance.md): the operations at a fifth of the speed that matrix
products alone reach in the same process, and the memory that the backward pass needs.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import re
import statistics
import time
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from palate.experiments.experiment import Experiment
from palate.experiments.figures import Measure
from palate.experiments.runs import Case, Point
from palate.machine import calm_threads, threads, tune_allocator
from palate.model.cost import anatomy_of, training_flops, work_of
from palate.model.memory import activations, head_peak
from palate.model.peak import measure_peak
from palate.model.policy import Layout, Policy
from palate.tokens.tree import Branch, Forest, build_forest

MIB = 2**20
_BETA = 0.1
_SHARE = 0.2  # of the speed of matrix products alone: what steps were assumed to reach


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Batch:
    """So many pairs; `sharing` of them have one prompt. Lengths in tokens."""

    pairs: int = 8
    prompt: int = 128
    answer: int = 32
    sharing: int = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is varied, each from `shapes[1]` and `Batch()`."""

    shapes: tuple[Shape, ...]
    prompts: tuple[int, ...]
    answers: tuple[int, ...]
    sharing: tuple[int, ...]
    timed: int


SHAPES = (
    Shape("tiny", 64, 2, 4, 2, 128, 1024),
    Shape("small", 256, 8, 4, 2, 768, 4096),
    Shape("medium", 384, 16, 6, 2, 1024, 16_384),
    Shape("smollm2-135m", 576, 30, 9, 3, 1536, 49_152),
)
FULL = Sizes(SHAPES, (32, 64, 128, 256, 512), (16, 32, 64, 128), (1, 2, 4, 8), 5)
REDUCED = Sizes(
    (SHAPES[0], Shape("less tiny", 128, 3, 4, 2, 256, 1024)), (32, 256), (16, 128), (1, 8), 1
)


def cases(sizes: Sizes) -> list[Case]:
    """Every size in both layouts."""
    base = sizes.shapes[1]
    found: list[tuple[str, Shape, Batch]] = []
    found += [(f"prompts of {n}", base, Batch(prompt=n)) for n in sizes.prompts]
    found += [(f"answers of {n}", base, Batch(answer=n)) for n in sizes.answers]
    found += [(f"{n} pairs a prompt", base, Batch(sharing=n)) for n in sizes.sharing]
    found += [(f"a {shape.name} model", shape, Batch()) for shape in sizes.shapes]
    layouts: tuple[Layout, ...] = ("tree", "plain")
    return [
        Case(layout, f"{what}, {layout}", partial(_run, shape, batch, layout))
        for what, shape, batch in found
        for layout in layouts
    ]


def _run(shape: Shape, batch: Batch, layout: Layout, sizes: Sizes, seed: int) -> list[Point]:
    """In a process of its own, since what others left free there would hide what is needed."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return [pool.apply(measured, (shape, batch, layout, sizes.timed, seed))]


def measured(shape: Shape, batch: Batch, layout: Layout, timed: int, seed: int) -> dict[str, float]:
    """Tokens, operations, seconds and MiB of a step, and what the model says of the last two."""
    calm_threads()
    tune_allocator()
    torch.set_num_threads(threads())
    torch.manual_seed(seed)
    _step(_policy(SHAPES[0], layout), _forest(SHAPES[0], Batch(prompt=8), layout, seed))  # warm
    policy, forest = _policy(shape, layout), _forest(shape, batch, layout, seed)
    work, anatomy = work_of(forest, share=layout == "tree"), anatomy_of(llama(shape))
    flops = training_flops(anatomy, work, lora=False)
    gc.collect()
    before = _resident(fresh=True)
    _step(policy, forest)
    needed = _resident() - before  # gradients stay
    took = statistics.median(_step(policy, forest) for _ in range(timed))
    peak = measure_peak(torch.float32)
    kept = activations(anatomy, work, "fp32", lora=False)
    counted = kept + head_peak(anatomy, work, lora=False, fused=False) + 4 * anatomy.parameters
    expected = flops / (_SHARE * peak)
    return {
        "tokens": float(work.computed),
        "gflops": flops / 1e9,
        "seconds": took,
        "seconds by the model": expected,
        "time": took / expected,
        "mib": needed / MIB,
        "mib by the model": counted / MIB,
        "memory": needed / counted,
    }


def _policy(shape: Shape, layout: Layout) -> Policy:
    from transformers import LlamaForCausalLM

    return Policy(LlamaForCausalLM(llama(shape)).eval(), layout=layout)


def _forest(shape: Shape, batch: Batch, layout: Layout, seed: int) -> Forest:
    return build_forest(branches(shape, batch, seed), share=layout == "tree")


def _step(policy: Policy, forest: Forest) -> float:
    """Seconds of a forward and a backward pass."""
    began = time.perf_counter()
    logps_B = policy(forest).sums_B()
    loss = -logsigmoid(_BETA * (logps_B[0::2] - logps_B[1::2])).mean()
    loss.backward()
    return time.perf_counter() - began


def llama(shape: Shape) -> Any:
    """The config of a shape, with a tied head."""
    from transformers import LlamaConfig

    _, width, layers, heads, kv_heads, inner, vocabulary = astuple(shape)
    return LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
    )


def branches(shape: Shape, batch: Batch, seed: int) -> list[Branch]:
    """Chosen and rejected in turn, of random tokens; answers begin with unlike tokens."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(shape.vocabulary) for _ in range(count)]

    found = []
    for first in range(0, batch.pairs, batch.sharing):
        prompt = tokens(batch.prompt)
        for number in range(2 * min(batch.sharing, batch.pairs - first)):
            ids = [*prompt, number, *tokens(batch.answer - 1)]
            found.append(Branch(ids, [False] * len(prompt) + [True] * batch.answer))
    return found


def _resident(*, fresh: bool = False) -> float:
    """Bytes of this process in memory, or the most since it was asked `fresh`; NaN elsewhere.

    Linux lets a process reset its peak.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.is_file():
        return float("nan")
    if fresh:
        reset.write_text("5", encoding="ascii")
    name = "VmRSS" if fresh else "VmHWM"
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text(encoding="ascii"))
    return 1024 * float(found[1]) if found else float("nan")


TOKENS = Measure("tokens", "tokens", digits=0)
SECONDS = Measure("seconds", "seconds a step", digits=3)
NEEDED = Measure("mib", "MiB a step", digits=0)
EXPERIMENT = Experiment(
    name="cost",
    cases=cases,
    x=Measure("gflops", "10⁹ operations of a step", log=True),
    ys=[
        Measure("seconds", "seconds a step", log=True),
        Measure("mib", "MiB a step", log=True),
        Measure("time", "time, measured / model"),
        Measure("memory", "memory, measured / model"),
    ],
    told=[
        TOKENS,
        Measure("gflops", "10⁹ operations", digits=1),
        SECONDS,
        Measure("time", "of the model's"),
        NEEDED,
        Measure("memory", "of the model's"),
    ],
    begin=lambda sizes: sizes,
    full=FULL,
    reduced=REDUCED,
)
