"""The tree equals the plain padded computation: log-probs and every gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.tiny import VOCABULARY, tiny_model

from palate.model.policy import Policy
from palate.tokens.tree import Branch, Forest, build_forest

FAMILIES = ("llama", "qwen3", "gpt2")


def tokens(count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=draw).tolist()


def branch(prompt: list[int], answer: list[int]) -> Branch:
    return Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


def pairs() -> list[Branch]:
    """Three prompts of their own, two answers each, of different lengths."""
    found = []
    for index, (prompt, chosen, rejected) in enumerate(((9, 5, 8), (17, 3, 3), (12, 11, 2))):
        begin = tokens(prompt, index)
        found += [
            branch(begin, tokens(chosen, 10 + index)),
            branch(begin, tokens(rejected, 20 + index)),
        ]
    return found


def shared_system() -> list[Branch]:
    """One system prompt over three pairs, and two rejected answers that begin alike."""
    system = tokens(20, 99)
    found = []
    for index in range(3):
        prompt = [*system, *tokens(6 + index, 30 + index)]
        begin = tokens(9, 50)
        found += [
            branch(prompt, [*begin, *tokens(4, 40 + index)]),
            branch(prompt, [*begin, *tokens(5, 60 + index)]),
        ]
    return found


def conversation() -> list[Branch]:
    """Turns of one conversation: a later pair's prompt holds the earlier chosen answer."""
    first = tokens(15, 1)
    chosen, rejected = tokens(10, 2), tokens(9, 3)
    second = [*first, *chosen, *tokens(11, 4)]
    third = [*second, *tokens(8, 5), *tokens(9, 6)]
    multi = Branch(
        [*first, *chosen, *tokens(11, 4), *tokens(8, 5)],
        [False] * 15 + [True] * 10 + [False] * 11 + [True] * 8,
    )
    return [
        branch(first, chosen),
        branch(first, rejected),
        branch(second, tokens(8, 5)),
        branch(second, tokens(7, 7)),
        branch(third, tokens(6, 8)),
        branch(third, tokens(5, 9)),
        multi,
    ]


BATCHES = {"pairs": pairs, "shared system": shared_system, "conversation": conversation}


def plain_logps(model: Any, branches: list[Branch]) -> list[torch.Tensor]:
    """The reference: one padded batch through the model's own forward, nothing of ours."""
    longest = max(len(b.ids) for b in branches)
    ids = torch.zeros(len(branches), longest, dtype=torch.long)
    mask = torch.zeros(len(branches), longest, dtype=torch.long)
    for row, b in enumerate(branches):
        ids[row, : len(b.ids)] = torch.tensor(b.ids)
        mask[row, : len(b.ids)] = 1
    model.set_attn_implementation("sdpa")
    logps = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    out = []
    for row, b in enumerate(branches):
        at = [t for t in range(1, len(b.ids)) if b.mask[t]]
        out.append(torch.stack([logps[row, t - 1, b.ids[t]] for t in at]))
    return out


def objective(sums: list[torch.Tensor]) -> torch.Tensor:
    """A function of the branch sums that weighs every branch differently."""
    return torch.stack([(i + 1) * s.tanh() + 0.1 * s for i, s in enumerate(sums)]).sum()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, grad in left.items():
        other = right[name]
        scale = max(float(other.abs().max()), 1e-12)
        assert float((grad - other).abs().max()) <= 1e-5 * scale, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", BATCHES)
def test_the_tree_equals_the_plain_computation(family: str, batch: str) -> None:
    branches = BATCHES[batch]()
    model = tiny_model(family)
    expected = plain_logps(model, branches)
    objective([e.sum() for e in expected]).backward()
    wanted = gradients(model)
    model.zero_grad()

    forest = build_forest(branches)
    assert forest.shared
    out = Policy(model)(forest)
    for index, values in enumerate(expected):
        mine = out.token_logps_N[out.branches_N == index]
        assert float((mine - values).detach().abs().max()) <= 1e-5
    objective(list(out.sums_B())).backward()
    assert_same_gradients(gradients(model), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_plain_layout_equals_the_plain_computation(family: str) -> None:
    branches = pairs()
    model = tiny_model(family)
    expected = torch.cat(plain_logps(model, branches))
    out = Policy(model, layout="plain")(build_forest(branches, share=False))
    assert float((out.token_logps_N - expected).detach().abs().max()) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_no_gradient_leaks_between_siblings(family: str) -> None:
    """The leak test: exactly 0, no tolerance."""
    model = tiny_model(family)
    forest = build_forest(shared_system())
    captured: list[torch.Tensor] = []

    def capture(_m: Any, _i: Any, output: torch.Tensor) -> torch.Tensor:
        captured.append(output.detach().requires_grad_())
        return captured[-1]

    hook = model.get_input_embeddings().register_forward_hook(capture)
    out = Policy(model)(forest)
    hook.remove()
    sums = out.sums_B()
    for index in range(forest.branches):
        (grad,) = torch.autograd.grad(sums[index], captured[0], retain_graph=True)
        touched = grad[0].abs().amax(-1) > 0
        allowed = path_rows(forest, index)
        assert not bool((touched & ~allowed).any())
        # all but the leaf's last token, which predicts nothing, matter
        assert int(touched.sum()) == int(allowed.sum()) - 1


def path_rows(forest: Forest, index: int) -> torch.Tensor:
    rows = forest.hidden_H[forest.rows_P[forest.predictions_N[forest.branches_N == index]]]
    leaf = next(s for s in forest.segments if s.start <= int(rows.max()) < s.end)
    allowed = torch.zeros(forest.unique_tokens, dtype=torch.bool)
    for begin, end in (*leaf.context, (leaf.start, leaf.end)):
        allowed[begin:end] = True
    return allowed


def test_the_head_in_chunks_equals_the_head_at_once() -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    forest = build_forest(shared_system())
    at_once = Policy(model)(forest)
    # 4 bytes * 272 tokens * 3 rows: chunks of three rows
    chunked = Policy(other, logits_budget=4 * VOCABULARY * 3)(forest)
    # Not bit for bit: a matrix product may sum in another order for another number of rows.
    torch.testing.assert_close(at_once.token_logps_N, chunked.token_logps_N, rtol=0, atol=2e-6)
    objective(list(at_once.sums_B())).backward()
    objective(list(chunked.sums_B())).backward()
    assert_same_gradients(gradients(other), gradients(model))


def test_sums_and_counts() -> None:
    forest = build_forest([branch([1] * 9, [2, 3]), branch([1] * 9, [4])])
    out = Policy(tiny_model())(forest)
    assert out.counts_B().tolist() == [2, 1]
    values = torch.tensor([1.0, 2.0, 4.0])
    assert out.sums_B(values).tolist() == [3.0, 4.0]
    assert out.sums_B().dtype == torch.float64
