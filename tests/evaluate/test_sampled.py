"""Answers sampled from a policy: which prompts, how they are scored and kept, and their KL."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import BOS, END, byte_tokenizer, tiny_model

from palate.config import AdapterConfig
from palate.evaluate.answers import Answer
from palate.evaluate.sampled import (
    choose_prompts,
    read_answers,
    sample_answers,
    with_kl,
    write_answers,
)
from palate.generate.sampling import Sampling
from palate.judge.rules import RuleResult
from palate.model.adapters import adapters_off, attach
from palate.model.policy import Policy
from palate.records import Completion, Example, Message
from palate.tokens.render import Rendered, Renderer
from palate.tokens.tree import Branch


def example(asked: str, answer: str = "yes") -> Example:
    completions = (Completion((Message("assistant", answer),)),)
    return Example((Message("user", asked),), completions)


EXAMPLES = [example("hello"), example("hello", "no"), example("how are you?"), example("bye")]


def renderer() -> Renderer:
    return Renderer(byte_tokenizer(), end_ids=(END,))


def test_prompts_are_distinct_and_share_the_samples() -> None:
    chosen, n = choose_prompts(EXAMPLES, 2)
    assert [e.prompt[0].content for e in chosen] == ["hello", "how are you?"]
    assert n == 1
    chosen, n = choose_prompts(EXAMPLES, 8)
    assert len(chosen) == 3
    assert n == 2  # 3 · 2 ≤ 8 < 3 · 3
    assert choose_prompts(EXAMPLES, 0) == ([], 0)
    assert choose_prompts([], 5) == ([], 0)


def test_answers_are_scored_by_the_rule_on_their_text() -> None:
    seen: list[tuple[str, str]] = []

    def rule(prompt: Any, text: str) -> RuleResult:
        seen.append((prompt[-1].content, text))
        return RuleResult(len(text) % 2 == 0, 0.5, ("even",))

    done: list[int] = []
    answers, rendered = sample_answers(
        Policy(tiny_model()).eval(),
        renderer(),
        EXAMPLES[2:],
        Sampling(max_new_tokens=9, temperature=1.0),
        n=2,
        stage="after",
        rule=rule,
        advance=done.append,
    )
    assert [a.prompt[-1].content for a in answers] == ["how are you?"] * 2 + ["bye"] * 2
    assert [a.group for a in answers] == [EXAMPLES[2].prompt_key] * 2 + [EXAMPLES[3].prompt_key] * 2
    assert [text for _, text in seen] == [a.text for a in answers]
    assert {a.stage for a in answers} == {"after"}
    assert sum(done) == 4
    for answer, tokens in zip(answers, rendered, strict=True):
        branch = tokens.branches[0]
        assert list(branch.ids[: tokens.prompt_length]) == renderer().prompt(answer.prompt)
        assert branch.mask == [False] * tokens.prompt_length + [True] * answer.tokens
        assert answer.finished == (branch.ids[-1] == END)


def test_the_text_leaves_out_the_end_of_turn_and_special_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from palate.evaluate import sampled
    from palate.generate.sampling import Sample

    def ids(text: str) -> list[int]:
        return byte_tokenizer()(text)["input_ids"]  # type: ignore[no-any-return]

    drawn = [
        [Sample((*ids(" hi"), BOS, *ids("! "), END), True)],
        [Sample(tuple(ids("cut")), False)],
    ]
    monkeypatch.setattr(sampled, "sample", lambda *_, **__: drawn)
    policy = Policy(tiny_model())
    answers, _ = sample_answers(
        policy, renderer(), EXAMPLES[2:], Sampling(), n=1, stage="before", rule=None
    )
    found = [(a.text, a.tokens, a.finished, a.result) for a in answers]
    assert found == [("hi!", 7, True, None), ("cut", 3, False, None)]


def answer(stage: str, text: str, **more: Any) -> Answer:
    return Answer((Message("user", "x"),), "g", text, 3, True, stage, **more)  # type: ignore[arg-type]


TEXTS = ["plain", "two\nlines", "next\u2028line\x85and\u2029more", "ü 😀", ""]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert read_answers(path, "before") == []
    before = [answer("before", text, result=RuleResult(False, 0.25, ("a", "b"))) for text in TEXTS]
    after = [answer("after", text, kl=1.5) for text in TEXTS]
    write_answers(path, "before", before)
    write_answers(path, "after", after)
    assert read_answers(path, "before") == before
    assert read_answers(path, "after") == after


def test_a_stage_that_is_written_again_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_answers(path, "before", [answer("before", "a")])
    for text in ("b", "c"):
        write_answers(path, "after", [answer("after", text)])
    assert [a.text for a in read_answers(path, "before")] == ["a"]
    assert [a.text for a in read_answers(path, "after")] == ["c"]


def test_a_full_disk_keeps_the_answers_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "samples.jsonl"
    write_answers(path, "before", [answer("before", "a")])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palate.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_answers(path, "after", [answer("after", "b")])
    assert [a.text for a in read_answers(path, "before")] == ["a"]
    assert read_answers(path, "after") == []


def rendered(prompt: list[int], text: list[int]) -> Rendered:
    mask = [False] * len(prompt) + [True] * len(text)
    return Rendered("x", len(prompt), (Branch([*prompt, *text], mask),))


ROWS = [
    rendered([1, 2, 3], [4, 5, END]),
    rendered([1, 2, 3], [9]),
    rendered([1, 2, 3], [9]),  # the same answer drawn twice
    rendered(list(range(30)), [7, 7, 7, 7]),
]


def by_hand(model: Any, row: Rendered) -> float:
    """Σ_t log softmax(logits)[y_t], from transformers' own logits, without packing."""
    ids = torch.tensor([list(row.branches[0].ids)])
    with torch.no_grad():
        logps = model(ids).logits[0].double().log_softmax(-1)
    start = row.prompt_length
    return sum(float(logps[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))


@pytest.mark.parametrize("layout", ["tree", "plain"])
def test_kl_by_hand(layout: Any) -> None:
    ours, theirs = tiny_model(seed=0), tiny_model(seed=1)
    policy, reference = (Policy(m, layout=layout).eval() for m in (ours, theirs))
    answers = [answer("after", "") for _ in ROWS]
    found = with_kl(answers, ROWS, policy, reference, nullcontext, 40)
    ours.set_attn_implementation("eager")
    theirs.set_attn_implementation("eager")
    for row, one in zip(ROWS, found, strict=True):
        assert one.kl == pytest.approx(by_hand(ours, row) - by_hand(theirs, row), abs=1e-4)
    assert max(abs(one.kl or 0) for one in found) > 1


def test_kl_is_zero_where_the_policy_is_the_reference() -> None:
    model = tiny_model()
    adapted = attach(model, AdapterConfig(rank=2), seed=0)
    policy = Policy(model).eval()
    answers = [answer("after", "") for _ in ROWS]
    for one in with_kl(answers, ROWS, policy, policy, lambda: adapters_off(adapted), 40):
        assert one.kl == 0.0
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.add_(0.1)
    moved = with_kl(answers, ROWS, policy, policy, lambda: adapters_off(adapted), 40)
    assert all(one.kl is not None and abs(one.kl) > 1e-3 for one in moved)


def test_a_kl_that_is_not_finite_is_not_measured() -> None:
    broken = tiny_model()
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(math.nan)
    answers = [answer("after", "") for _ in ROWS]
    policy, reference = Policy(tiny_model()).eval(), Policy(broken).eval()
    found = with_kl(answers, ROWS, policy, reference, nullcontext, 8)
    assert [one.kl for one in found] == [None] * len(ROWS)
