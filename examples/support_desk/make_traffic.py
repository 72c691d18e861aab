"""Write the desk's log: SmolLM2 answers every customer message, the house rules give the thumbs.

    python examples/support_desk/make_traffic.py --out examples/support_desk/traffic.jsonl

Answers are sampled in rounds until a message has one that keeps the rules and one that
breaks them, or until the rounds are used up. Two of its answers go into the log: where
there are both kinds, the first that passed, and of the first two that failed the one that
is closer to it in length, so that the thumb is no mere judgement of length; otherwise the
first two. The same seed and the same versions of torch and transformers give the same
file. `--candidates` keeps every sampled answer, and `--reuse` pairs them again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rules import house_rules
from world import GREETING, SYSTEM_PROMPT, CustomerMessage, customer_messages

from palate.generate.sampling import Sample, Sampling, sample
from palate.judge.rules import RuleResult
from palate.machine import cores, fast_bf16, tune_allocator
from palate.model.load import SMOLLM2, load, to_compute
from palate.model.policy import Policy
from palate.records import Message
from palate.tokens.render import Renderer

MAX_NEW_TOKENS = 64
PER_ROUND = 4
FIRST_SECOND = 1_767_261_600  # 1 January 2026, 10:00 UTC


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer and what the house rules say about it."""

    text: str
    tokens: int
    finished: bool
    result: RuleResult


class Desk:
    """SmolLM2 behind the desk's system prompt and greeting."""

    def __init__(self, precision: str) -> None:
        tune_allocator()
        torch.set_num_threads(cores())
        loaded = load(SMOLLM2)
        if precision == "auto":
            precision = "bf16" if fast_bf16() else "fp32"
        model = loaded.model.requires_grad_(False)
        self.policy = Policy(model, precision="bf16" if precision == "bf16" else "fp32")
        to_compute(model, self.policy.precision)
        self.end_ids = loaded.end_ids
        self.tokenizer: Any = loaded.tokenizer
        self.renderer = Renderer(loaded.tokenizer, end_ids=loaded.end_ids)

    def answers(self, messages: Sequence[CustomerMessage], seed: int) -> list[list[Answer]]:
        """`PER_ROUND` answers to each message."""
        prompts = [self.renderer.prompt(conversation(message)) for message in messages]
        drawn = sample(
            self.policy,
            prompts,
            Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=0.8, top_k=50, seed=seed),
            end_ids=self.end_ids,
            n=PER_ROUND,
            advance=_Ticker(len(messages) * PER_ROUND),
        )
        return [
            [self._judged(message, one) for one in several]
            for message, several in zip(messages, drawn, strict=True)
        ]

    def prompt_tokens(self, message: CustomerMessage) -> int:
        """Length of the rendered conversation."""
        return len(self.renderer.prompt(conversation(message)))

    def _judged(self, message: CustomerMessage, one: Sample) -> Answer:
        text = str(self.tokenizer.decode(one.ids, skip_special_tokens=True)).strip()
        result = house_rules(conversation(message), text)
        return Answer(text, len(one.ids), one.finished, result)


class _Ticker:
    """Counts finished answers on the terminal."""

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total

    def __call__(self, count: int) -> None:
        self.done += count
        end = "\n" if self.done == self.total else ""
        sys.stderr.write(f"\r{self.done} of {self.total} answers{end}")
        sys.stderr.flush()


def conversation(message: CustomerMessage) -> list[Message]:
    """House rules, greeting, and what the customer wrote."""
    return [
        Message("system", SYSTEM_PROMPT),
        Message("assistant", GREETING),
        Message("user", message.text),
    ]


def collect(
    desk: Desk, messages: Sequence[CustomerMessage], rounds: int, seed: int
) -> dict[CustomerMessage, list[Answer]]:
    """Distinct answers to each message: rounds go on while they lack one of the two kinds."""
    found: dict[CustomerMessage, list[Answer]] = {message: [] for message in messages}
    for number in range(rounds):
        waiting = [message for message in messages if shown(found[message]) is None]
        if not waiting:
            break
        several = desk.answers(waiting, seed * 1000 + number)
        for message, answers in zip(waiting, several, strict=True):
            known = {answer.text for answer in found[message]} | {""}
            for answer in answers:
                if answer.text not in known:
                    known.add(answer.text)
                    found[message].append(answer)
    return found


def shown(answers: Sequence[Answer]) -> tuple[Answer, Answer] | None:
    """The first passing answer and the closer in length of the first two failing ones."""
    ups = [answer for answer in answers if answer.result.passed]
    downs = [answer for answer in answers if not answer.result.passed]
    if not ups or not downs:
        return None
    words = len(ups[0].text.split())
    return ups[0], min(downs[:2], key=lambda down: abs(words - len(down.text.split())))


def log_lines(
    desk: Desk, found: dict[CustomerMessage, list[Answer]], seed: int
) -> Iterator[dict[str, Any]]:
    """Two rows a message, in the OpenAI chat format, with metadata and feedback."""
    rng = random.Random(seed)
    second = FIRST_SECOND
    for number, (message, answers) in enumerate(found.items(), start=1):
        couple = list(shown(answers) or answers[:2])
        if len(couple) < 2:
            continue
        rng.shuffle(couple)
        second += rng.randrange(60, 1800)
        for place, answer in enumerate(couple):
            yield _row(desk, message, answer, f"c{number:04d}", second + place)


def _row(
    desk: Desk, message: CustomerMessage, answer: Answer, name: str, second: int
) -> dict[str, Any]:
    asked = desk.prompt_tokens(message)
    digest = hashlib.sha256(f"{name}|{answer.text}".encode()).hexdigest()
    return {
        "id": f"chatcmpl-{digest[:24]}",
        "object": "chat.completion",
        "created": second,
        "model": SMOLLM2,
        "messages": [turn.to_dict() for turn in conversation(message)],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop" if answer.finished else "length",
                "message": {"role": "assistant", "content": answer.text},
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answer.tokens,
            "total_tokens": asked + answer.tokens,
        },
        "metadata": {
            "template": message.template,
            "topic": message.topic,
            "conversation": name,
        },
        "feedback": {"thumbs": "up" if answer.result.passed else "down"},
    }


def write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write one row a line and return their count."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def candidate_rows(found: dict[CustomerMessage, list[Answer]]) -> Iterator[dict[str, Any]]:
    """Every distinct answer that was sampled, in the order in which it came."""
    for message, answers in found.items():
        for answer in answers:
            yield {
                "template": message.template,
                "customer": message.text,
                "answer": answer.text,
                "tokens": answer.tokens,
                "finished": answer.finished,
                "passed": answer.result.passed,
                "score": answer.result.score,
                "failed": list(answer.result.failed),
            }


def reused(path: Path, messages: Sequence[CustomerMessage]) -> dict[CustomerMessage, list[Answer]]:
    """The answers that `--candidates` wrote, judged again."""
    found: dict[CustomerMessage, list[Answer]] = {message: [] for message in messages}
    by_text = {(message.template, message.text): message for message in messages}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            message = by_text[row["template"], row["customer"]]
            result = house_rules(conversation(message), row["answer"])
            found[message].append(Answer(row["answer"], row["tokens"], row["finished"], result))
    return found


def main() -> None:
    """Parse the command line, sample, write, and say what was written."""
    parser = argparse.ArgumentParser(description="Write the support desk's log.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("traffic.jsonl"))
    parser.add_argument("--candidates", type=Path, help="also write every sampled answer here")
    parser.add_argument("--reuse", type=Path, help="pair the answers in this file; sample none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-template", type=int, default=3, help="messages per template")
    parser.add_argument("--rounds", type=int, default=3, help=f"of {PER_ROUND} answers, at most")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    args = parser.parse_args()
    desk = Desk(args.precision)
    messages = customer_messages(args.per_template, args.seed)
    if args.reuse:
        found = reused(args.reuse, messages)
    else:
        found = collect(desk, messages, args.rounds, args.seed)
    rows = write_jsonl(args.out, log_lines(desk, found, args.seed))
    if args.candidates:
        write_jsonl(args.candidates, candidate_rows(found))
    both = sum(shown(answers) is not None for answers in found.values())
    sys.stdout.write(f"{rows} answers to {rows // 2} messages, {both} with one up and one down\n")


if __name__ == "__main__":
    main()
