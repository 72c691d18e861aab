"""Time DPO steps on a GPU: model shapes with random weights, in bf16, against the device's peak.

    python benchmarks/gpu.py                                  # kernels; 1B full and LoRA, 8B LoRA
    python benchmarks/gpu.py --shapes 1b --workloads W4       # less of it
    python benchmarks/gpu.py --shapes 135m --device cpu --compile off on   # Inductor on a CPU

First every attention kernel is checked on this device against attention written out in float64,
for the heads of each shape, and timed. Then each measurement is a fresh process: a model of
random weights, the step of a run (forward, backward, clipping, AdamW; the reference is not in it,
as if it were cached), two steps to warm up and five timed. Pairs are random tokens of the lengths
of a workload. The fraction is F / (seconds × measured matrix-product peak), F being what the step
needs by `palate.model.cost`, recomputation not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig

    from palate.config import RunConfig
    from palate.model.cost import Work
    from palate.model.policy import Policy
    from palate.tokens.render import Rendered
    from palate.train.folder import Plan

WARM_UP, TIMED = 2, 5

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 272,
             "tie_word_embeddings": True},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
             "tie_word_embeddings": True},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
           "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
           "tie_word_embeddings": False},
}  # fmt: skip
"""Llama's own sizes: SmolLM2-135M, Llama-3.2-1B and Llama-3.1-8B, and one for tests."""


@dataclass(frozen=True)
class Workload:
    """Lengths in tokens; a pair (low, high) is drawn evenly between the two."""

    pairs: int
    system: int
    prompt: tuple[int, int]
    answer: tuple[int, int]


WORKLOADS = {
    "W2": Workload(pairs=8, system=0, prompt=(4096, 4096), answer=(128, 128)),
    "W3": Workload(pairs=32, system=0, prompt=(40, 500), answer=(60, 440)),
    "W4": Workload(pairs=32, system=1000, prompt=(40, 40), answer=(60, 60)),
    "W5": Workload(pairs=32, system=0, prompt=(1, 1), answer=(256, 256)),
    "tiny": Workload(pairs=3, system=8, prompt=(4, 9), answer=(3, 7)),
}
"""Those of docs/performance.md; W3 has the spread of real chat pairs, not their text."""


def workload_of(name: str, pairs: int | None = None) -> Workload:
    """A workload, with another number of pairs a step where one is given."""
    found = WORKLOADS[name]
    return replace(found, pairs=pairs) if pairs else found


def make_examples(work: Workload, steps: int, vocabulary: int) -> list[Rendered]:
    """Random tokens of a workload's lengths, the same on every machine."""
    from palate.tokens.render import Rendered
    from palate.tokens.tree import Branch

    draw = random.Random(0)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(count)]

    system, found = ids(work.system), []
    for number in range(work.pairs * steps):
        prompt = [*system, *ids(draw.randint(*work.prompt))]
        answers = [ids(draw.randint(*work.answer)) for _ in range(2)]
        branches = tuple(
            Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
            for answer in answers
        )
        found.append(Rendered(str(number), len(prompt), branches))
    return found


def llama(shape: str) -> LlamaConfig:
    """The transformers config of a shape."""
    from transformers import LlamaConfig

    return LlamaConfig(**SHAPES[shape], max_position_embeddings=8192)


def check_kernels(shapes: list[str], device: torch.device) -> dict[str, Any]:
    """For the heads of each shape: what is wrong with each kernel (None: exact), and the choice."""
    import torch

    from palate.model.kernels import KERNELS, check, choose, heads_of

    dtype = torch.bfloat16
    found: dict[str, Any] = {}
    for shape in shapes:
        heads = heads_of(llama(shape))
        names = KERNELS if device.type == "cuda" else {}
        wrong = {name: check(kernel, heads, device, dtype) for name, kernel in names.items()}
        chosen = choose(heads, device, dtype)
        found[shape] = {"wrong": wrong, "chosen": chosen.name, "reason": chosen.reason}
    return found


def one(args: argparse.Namespace) -> dict[str, Any]:
    """Times of this process's steps, and what they computed."""
    from palate.machine import calm_threads, threads, tune_allocator

    calm_threads()
    tune_allocator()
    import torch

    from palate.config import build_config
    from palate.model.cost import anatomy_of, training_flops
    from palate.model.peak import measure_peak

    (shape,), (adapter,), (workload,) = args.shapes, args.adapters, args.workloads
    device = torch.device(args.device)
    torch.set_num_threads(threads())
    train = {"compile": args.compile[0], "checkpointing": args.checkpointing}
    raw = {"adapter": {"kind": adapter}, "train": train}
    config = build_config({"model": "random", "data": "random", **raw})
    policy, plan, notes = _policy(args, config, device)
    work = workload_of(workload, args.pairs)
    times, done, last = _steps(args, config, policy, work)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    sizes = (2048, 4096, 8192) if device.type == "cuda" else (512, 1024, 2048)
    peak = measure_peak(dtype, args.device, budget=2.0, sizes=sizes)
    # the host runs ahead of a GPU: only the sum of its times is one
    seconds = sum(times) / len(times) if device.type == "cuda" else statistics.median(times)
    anatomy = anatomy_of(policy.model.config)
    flops = training_flops(anatomy, done, lora=adapter == "lora") / args.steps
    return {
        "shape": shape,
        "adapter": adapter,
        "workload": workload,
        "precision": args.precision,
        "attention": plan.attention,
        "compiled": bool(policy.blocks and policy.blocks.compiled),
        "seconds": seconds,
        "pairs_per_second": work.pairs / seconds,
        "unique_tokens_per_second": done.unique / args.steps / seconds,
        "sharing": done.path / done.unique,
        "peak_tflops": peak / 1e12,
        "fraction": flops / (seconds * peak),
        "memory_gib": _memory(device),
        "loss": last,
        "notes": notes,
    }


def _policy(
    args: argparse.Namespace, config: RunConfig, device: torch.device
) -> tuple[Policy, Plan, list[str]]:
    """A model of random weights, ready to train as a run would have it; and what was said."""
    import torch
    from transformers import AutoModelForCausalLM

    from palate.model.adapters import attach
    from palate.model.load import to_compute
    from palate.model.policy import Policy
    from palate.progress import Quiet
    from palate.train.device import equip, plan_device
    from palate.train.folder import Plan

    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(llama(args.shapes[0]), dtype=torch.float32)
    policy = Policy(model.eval(), precision=args.precision)
    threads = torch.get_num_threads()
    plan = Plan("tree", "benchmark", args.precision, args.device, threads, args.budget, "")
    notes: list[str] = []
    say = Quiet()
    say.note = notes.append  # type: ignore[method-assign]
    plan = plan_device(policy, plan, config.train, say)
    attach(model, config.adapter, 0)
    to_compute(model, args.precision)
    equip(policy, plan, config, say)
    return policy, plan, notes


def _steps(
    args: argparse.Namespace, config: RunConfig, policy: Policy, work: Workload
) -> tuple[list[float], Work, float]:
    """Seconds of each timed step, what they computed together, and the last loss."""
    import torch

    from palate.losses.registry import METHODS
    from palate.model.adapters import trainable
    from palate.model.cost import Work, work_of
    from palate.tokens.sampler import cut
    from palate.train.guard import Guard
    from palate.train.optimizer import clip_gradients, make_adamw
    from palate.train.prefetch import ahead
    from palate.train.shapes import MicroBatch
    from palate.train.step import Packed, compute_step, pack

    total, method, device = WARM_UP + args.steps, METHODS["dpo"], policy.device
    examples = make_examples(work, total, SHAPES[args.shapes[0]]["vocab_size"])
    weights = trainable(policy)
    guard = Guard(make_adamw(weights, config.optim, 1e-5))

    def batches(step: int) -> list[MicroBatch]:
        rows = list(range(step * work.pairs, (step + 1) * work.pairs))
        return pack(examples, rows, cut(examples, rows, args.budget), share=True, device=device)

    def reference(micro: MicroBatch) -> torch.Tensor:
        return torch.zeros(len(micro.forest.predictions_N), device=device)

    times, done = [], Work()
    began = time.perf_counter()
    for step, micro in ahead(batches, range(total)):
        guard.optimizer.zero_grad(set_to_none=True)
        result = compute_step(policy, method, method.params(), Packed(micro, reference), {})
        norm = clip_gradients(weights.values(), config.optim.clip)
        guard.step(result.loss, norm, [])
        if step + 1 in {WARM_UP, total}:
            guard.settle()  # waits for the device, as a logging interval does
        now = time.perf_counter()
        if step >= WARM_UP:
            times.append(now - began)
            done = sum((work_of(m.forest) for m in micro), done)
        began = now
    return times, done, float(result.loss)


def _memory(device: torch.device) -> float:
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine(device: torch.device) -> str:
    """What the figures belong to."""
    import torch

    from palate.machine import describe

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else describe().processor
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "8b"])
    parser.add_argument("--adapters", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=["W2", "W3", "W4", "W5"]
    )
    parser.add_argument("--compile", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--checkpointing", choices=["auto", "always", "never"], default="auto")
    parser.add_argument("--budget", type=int, default=8192, help="unique tokens of a micro-batch")
    parser.add_argument("--pairs", type=int, help="pairs of a step, instead of the workload's")
    parser.add_argument("--steps", type=int, default=TIMED, help="steps that are timed")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each kind")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Check the kernels, run every combination in a fresh process, print a table."""
    args = _arguments().parse_args()
    if args.one:
        sys.stdout.write(json.dumps(one(args)) + "\n")
        return
    import torch

    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device: use --device cpu with a small shape")
    kernels = check_kernels(args.shapes, device)
    sys.stdout.write(machine(device) + "\n")
    for shape, found in kernels.items():
        sys.stdout.write(f"attention, {shape}: {found['chosen']} ({found['reason']})\n")
        for name, wrong in found["wrong"].items():
            sys.stdout.write(f"  {name}: {wrong or 'exact'}\n")
    sys.stdout.write(
        "shape | adapter | workload | compiled | seconds a step | pairs/s | unique tokens/s "
        "| of peak | peak GiB\n"
    )
    runs = []
    for shape, adapter, workload, compiled in _combinations(args):
        runs.append(_fresh(args, shape, adapter, workload, compiled))
        sys.stdout.write(_line(runs[-1]) + "\n")
        sys.stdout.flush()
    if args.out:
        body = {"machine": machine(device), "kernels": kernels, "runs": runs}
        args.out.write_text(json.dumps(body, indent=1), encoding="utf-8")


def _combinations(args: argparse.Namespace) -> list[tuple[str, str, str, str]]:
    """What is measured, in order; an 8B model is not trained whole: 128 GB before it begins."""
    each = itertools.product(args.shapes, args.adapters, args.workloads, args.compile)
    return [one for one in each if one[:2] != ("8b", "full")] * args.rounds


def _fresh(
    args: argparse.Namespace, shape: str, adapter: str, workload: str, compiled: str
) -> dict[str, Any]:
    """One measurement in a process of its own; its last line of error where it fails."""
    command = [sys.executable, __file__, "--one", "--shapes", shape, "--adapters", adapter]
    command += ["--workloads", workload, "--compile", compiled, "--device", args.device]
    command += ["--precision", args.precision, "--checkpointing", args.checkpointing]
    command += ["--budget", str(args.budget), "--steps", str(args.steps)]
    command += ["--pairs", str(args.pairs)] if args.pairs else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own file
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        what = {"shape": shape, "adapter": adapter, "workload": workload, "compiled": compiled}
        return {**what, "error": lines[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(run: dict[str, Any]) -> str:
    head = f"{run['shape']} | {run['adapter']} | {run['workload']} | {run['compiled']}"
    if "error" in run:
        return f"{head} | failed: {run['error'][:200]}"
    return (
        f"{head} | {run['seconds']:.3f} | {run['pairs_per_second']:.2f} "
        f"| {run['unique_tokens_per_second']:.0f} | {run['fraction']:.1%} "
        f"of {run['peak_tflops']:.1f} TFLOP/s | {run['memory_gib']:.1f}"
    )


if __name__ == "__main__":
    main()
