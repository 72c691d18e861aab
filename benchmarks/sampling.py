"""Time sampling: many answers to each of some prompts, ours against transformers' `generate`.

    python benchmarks/sampling.py                        # all contenders, alternating
    python benchmarks/sampling.py --rounds 1 --only ours "generate, 16 prompts a batch"
    python benchmarks/sampling.py --profile              # where our time goes

SmolLM2-135M-Instruct in fp32; 16 prompts of 256 random tokens that share no beginning, 8 answers of
exactly 64 tokens to each, drawn from the whole vocabulary at temperature 1. `generate` gets
`num_return_sequences=8` over padded batches (nothing is padded here, as all prompts are of one
length), in several batch sizes, with its growing cache and with its static one; a call for each
prompt; and a call for each answer. What is independent is timed in part: one batch where there
would be several equal ones, so every figure is tokens drawn over the seconds they took. Contenders
take turns in one process, with the same threads and the same allocator; medians over rounds. Beside
the seconds on the clock stand the seconds that the processor worked, which say more on a machine
that does something else as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from palate.machine import calm_threads, tune_allocator

calm_threads()  # before torch is imported
tune_allocator()

import torch  # noqa: E402

from palate.generate.sampling import Sampling, sample  # noqa: E402
from palate.machine import threads  # noqa: E402
from palate.model.load import SMOLLM2, load  # noqa: E402
from palate.model.policy import Policy  # noqa: E402

PROMPTS, PROMPT, ANSWERS, ANSWER = 16, 256, 8, 64


@dataclass(frozen=True)
class Contender:
    """`run` draws `tokens` tokens."""

    name: str
    tokens: int
    run: Callable[[], None]


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock and of the processor, and the machine's load."""

    clock: float
    processor: float
    load: float


def measure(contender: Contender) -> Spent:
    """Run it once."""
    clock, processor = time.perf_counter(), time.process_time()
    with torch.no_grad():
        contender.run()
    return Spent(time.perf_counter() - clock, time.process_time() - processor, os.getloadavg()[0])


def prompts(vocabulary: int) -> list[list[int]]:
    """Random tokens, always the same."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (PROMPTS, PROMPT), generator=draw)
    return ids.tolist()  # type: ignore[no-any-return]


def ours(policy: Policy, ids: list[list[int]], batch_size: int) -> Contender:
    """All prompts, `batch_size` answers at once."""

    def run() -> None:
        drawn = sample(
            policy,
            ids,
            Sampling(ANSWER, temperature=1.0, top_k=0),
            end_ids=[-1],
            n=ANSWERS,
            batch_size=batch_size,
        )
        assert {len(one.ids) for answers in drawn for one in answers} == {ANSWER}

    return Contender(f"ours, {batch_size} answers at once", PROMPTS * ANSWERS * ANSWER, run)


def theirs(
    model: Any, ids: list[list[int]], size: int, answers: int = ANSWERS, static: bool = False
) -> Contender:
    """One batch of `size` prompts, `answers` to each."""
    rows = torch.tensor(ids[:size])
    more = {"cache_implementation": "static"} if static else {}

    def run() -> None:
        model.set_attn_implementation("sdpa")
        found = model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=answers,
            max_new_tokens=ANSWER,
            min_new_tokens=ANSWER,
            eos_token_id=None,
            pad_token_id=0,
            **more,
        )
        assert found.shape == (size * answers, PROMPT + ANSWER)

    kind = f"{size} prompts a batch" if size > 1 else "a call for each prompt"
    kind = kind if answers > 1 else "a call for each answer"
    return Contender(
        f"generate, {kind}{', static cache' if static else ''}", size * answers * ANSWER, run
    )


def contenders(model: Any, policy: Policy, ids: list[list[int]]) -> list[Contender]:
    """Everything that is compared."""
    return [
        theirs(model, ids, 1, answers=1),
        theirs(model, ids, 1),
        ours(policy, ids, 128),
        theirs(model, ids, 4),
        theirs(model, ids, 8),
        theirs(model, ids, 8, static=True),
        theirs(model, ids, 16),
        ours(policy, ids, 64),
    ]


def profile(run: Callable[[], None]) -> str:
    """Our own seconds by operator."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        run()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)  # type: ignore[no-any-return]


def main() -> None:
    """Let the contenders take turns and print a table."""
    parser = argparse.ArgumentParser(description="Time sampling against transformers' generate.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of contenders")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(threads())
    loaded = load(SMOLLM2)
    policy = Policy(loaded.model).eval()
    ids = prompts(loaded.model.config.vocab_size)
    sample(policy, ids[:1], Sampling(2), end_ids=[-1])  # the proof of the engine is made once
    if args.profile:
        sys.stdout.write(profile(ours(policy, ids, 128).run) + "\n")
        return
    found = contenders(loaded.model, policy, ids)
    chosen = [c for c in found if not args.only or c.name in args.only]
    spent: dict[str, list[Spent]] = {c.name: [] for c in chosen}
    for number in range(args.rounds):
        for contender in chosen:
            spent[contender.name].append(measure(contender))
            report = spent[contender.name][-1]
            sys.stderr.write(f"{number} {contender.name}: {report}\n")
    table(chosen, spent)


def table(chosen: list[Contender], spent: dict[str, list[Spent]]) -> None:
    """Medians, and how often ours is faster."""

    def rate(contender: Contender, kind: str) -> float:
        return contender.tokens / statistics.median(getattr(s, kind) for s in spent[contender.name])

    ours_all = [c for c in chosen if c.name.startswith("ours")]
    kinds = ("clock", "processor")
    best = {kind: max((rate(c, kind) for c in ours_all), default=0.0) for kind in kinds}
    sys.stdout.write(
        "what | tokens/s | ours is … times as fast | tokens/processor s | times | load\n"
    )
    for contender in chosen:
        cells = [contender.name]
        for kind in kinds:
            own = rate(contender, kind)
            cells += [f"{own:.1f}", f"{best[kind] / own:.2f}"]
        cells.append(", ".join(f"{s.load:.1f}" for s in spent[contender.name]))
        sys.stdout.write(" | ".join(cells) + "\n")


if __name__ == "__main__":
    main()
