"""From branch log-probs to what a loss reads: sums by hand, in each data shape."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.tiny import tiny_model
from torch import Tensor

from palate.losses.batch import Demonstrations, Labelled, Pairs
from palate.losses.method import Method
from palate.losses.registry import METHODS
from palate.model.policy import BranchLogps, Policy
from palate.model.scalar import add_scalar_head
from palate.tokens.render import Rendered
from palate.tokens.tree import Branch
from palate.train.reference import LiveReference
from palate.train.shapes import MicroBatch, batch_of, shaped
from palate.train.step import pack

CPU = torch.device("cpu")
# Two pairs: answers of 3 and 2 tokens, and of 1 and 3.
BRANCHES = [0, 0, 0, 1, 1, 2, 3, 3, 3]
LOGPS = [-1.0, -2.0, -4.0, -0.5, -0.25, -3.0, -1.0, -1.5, -2.0]
REFERENCE = [-1.5, -2.0, -3.0, -1.0, -0.5, -2.0, -1.0, -1.0, -1.0]
# log-ratios: +.5, 0, −1 | +.5, +.25 | −1 | 0, −.5, −1


def outcome(**more: Any) -> BranchLogps:
    return BranchLogps(torch.tensor(LOGPS), torch.tensor(BRANCHES), 4, **more)


def micro(thumbs: list[float] | None = None) -> MicroBatch:
    """One whose forest nobody looks at."""
    desirable = None if thumbs is None else torch.tensor(thumbs)
    return MicroBatch(None, rows=(), places=(), desirable_B=desirable)  # type: ignore[arg-type]


def test_pairs_by_hand() -> None:
    pairs = shaped(METHODS["dpo"], outcome(), torch.tensor(REFERENCE), micro())
    assert isinstance(pairs, Pairs)
    assert pairs.size == 2
    assert pairs.chosen.logp_B.tolist() == [-7, -3]
    assert pairs.rejected.logp_B.tolist() == [-0.75, -4.5]
    assert pairs.chosen.length_B.tolist() == [3, 1]
    assert pairs.rejected.length_B.tolist() == [2, 3]
    assert pairs.chosen.log_ratio_B.tolist() == [-0.5, -1]
    assert pairs.rejected.log_ratio_B.tolist() == [0.75, -1.5]
    assert pairs.chosen.sums == {}
    assert pairs.chosen.score_B is None
    for side in (pairs.chosen, pairs.rejected):
        assert side.logp_B.dtype == torch.float64
        assert side.log_ratio_B.dtype == torch.float64


def test_the_common_part_by_hand() -> None:
    """The first min(3, 2) = 2 tokens: .5 + 0 and .5 + .25; the first min(1, 3) = 1: −1 and 0."""
    method = replace(METHODS["dpo"], sums=("common_ratio",))
    pairs = shaped(method, outcome(), torch.tensor(REFERENCE), micro())
    assert isinstance(pairs, Pairs)
    assert pairs.chosen.sums["common_ratio"].tolist() == [0.5, -1]
    assert pairs.rejected.sums["common_ratio"].tolist() == [0.75, 0]


def test_statistics_are_summed_by_branch() -> None:
    values = torch.arange(9.0)
    pairs = shaped(METHODS["dpo"], outcome(statistics={"kl": values}), None, micro())
    assert isinstance(pairs, Pairs)
    assert pairs.chosen.sums["kl"].tolist() == [0 + 1 + 2, 5]
    assert pairs.rejected.sums["kl"].tolist() == [3 + 4, 6 + 7 + 8]
    assert pairs.chosen.ratio_B is None


def test_labelled_by_hand() -> None:
    found = shaped(METHODS["kto"], outcome(), torch.tensor(REFERENCE), micro([1, 0, 0, 1]))
    assert isinstance(found, Labelled)
    assert found.size == 4
    assert found.completion.log_ratio_B.tolist() == [-0.5, 0.75, -1, -1.5]
    assert found.desirable_B.tolist() == [1, 0, 0, 1]
    assert found.desirable_B.dtype == found.completion.logp_B.dtype


@pytest.mark.parametrize("name", ["sft", "pretrain"])
def test_demonstrations_by_hand(name: str) -> None:
    found = shaped(METHODS[name], outcome(), None, micro())
    assert isinstance(found, Demonstrations)
    assert found.completion.logp_B.tolist() == [-7, -0.75, -3, -4.5]
    assert found.completion.length_B.tolist() == [3, 2, 1, 3]


def test_scores_go_to_their_sides() -> None:
    scores = torch.tensor([0.5, -1.0, 2.0, 3.0])
    pairs = shaped(METHODS["reward"], outcome(scores_B=scores), None, micro())
    assert isinstance(pairs, Pairs)
    assert pairs.chosen.reward_B.tolist() == [0.5, 2]
    assert pairs.rejected.reward_B.tolist() == [-1, 3]


# --- through a policy -------------------------------------------------------------------


def pair(index: int) -> Rendered:
    prompt = list(range(10, 22 + index))
    answers = ([50 + index, 51, 52, 53 + index], [60, 61 + index])
    answers = answers if index % 2 else answers[::-1]
    branches = tuple(
        Branch([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
        for answer in answers
    )
    return Rendered(str(index), len(prompt), branches, desirable=index % 2 == 0)


def packed(examples: list[Rendered], *, share: bool = True) -> MicroBatch:
    rows = list(range(len(examples)))
    return pack(examples, rows, [rows], share=share, device=CPU)[0]


def batch(method: Method, *, share: bool = True, same: bool = False) -> Pairs:
    """Of three pairs, under a reference of other weights (or of the same)."""
    layout = "tree" if share else "plain"
    policy = Policy(tiny_model(), layout=layout)  # type: ignore[arg-type]
    frozen = Policy(tiny_model(seed=0 if same else 1), layout=layout)  # type: ignore[arg-type]
    reference = LiveReference(frozen, nullcontext)
    micro_batch = packed([pair(i) for i in range(3)], share=share)
    with torch.no_grad():
        found = batch_of(method, policy, micro_batch, reference)
    assert isinstance(found, Pairs)
    return found


@pytest.mark.parametrize("name", ["dpo", "tdpo", "wpo", "ld-dpo"])
def test_a_method_gets_the_sums_it_asks_for_in_both_layouts(name: str) -> None:
    method = METHODS[name]
    tree, plain = batch(method), batch(method, share=False)
    for one, other in ((tree.chosen, plain.chosen), (tree.rejected, plain.rejected)):
        assert set(one.sums) == set(method.sums)
        torch.testing.assert_close(one.log_ratio_B, other.log_ratio_B, rtol=1e-4, atol=1e-4)
        for key, value in one.sums.items():
            torch.testing.assert_close(value, other.sums[key], rtol=1e-4, atol=1e-4)
            assert float(value.abs().min()) > 0


@pytest.mark.parametrize("name", ["dpo", "tdpo", "ld-dpo"])
def test_where_the_policy_is_the_reference_all_is_exactly_zero(name: str) -> None:
    found = batch(METHODS[name], same=True)
    for side in (found.chosen, found.rejected):
        assert float(side.log_ratio_B.abs().max()) == 0
        for value in side.sums.values():
            assert float(value.abs().max()) < 1e-12 if name == "ld-dpo" else 1e-5


def test_the_common_part_of_answers_of_one_length_is_the_whole() -> None:
    prompt = list(range(10, 20))
    branches = tuple(
        Branch([*prompt, *answer], [False] * 10 + [True] * 3)
        for answer in ([50, 51, 52], [60, 61, 62])
    )
    method = METHODS["ld-dpo"]
    reference = LiveReference(Policy(tiny_model(seed=1)), nullcontext)
    micro_batch = packed([Rendered("0", 10, branches)])
    found = batch_of(method, Policy(tiny_model()), micro_batch, reference)
    assert isinstance(found, Pairs)
    for side in (found.chosen, found.rejected):
        assert torch.equal(side.sums["common_ratio"], side.log_ratio_B)


def test_thumbs_travel_with_their_examples() -> None:
    examples = [
        Rendered(one.example_id, one.prompt_length, one.branches[:1], desirable=one.desirable)
        for one in map(pair, range(4))
    ]
    (first, second) = pack(examples, [3, 0, 2, 1], [[1, 0], [3, 2]], share=True, device=CPU)
    assert first.desirable_B is not None
    assert second.desirable_B is not None
    assert first.desirable_B.tolist() == [0, 1]
    assert first.places == (3, 1)
    assert second.desirable_B.tolist() == [0, 1]
    assert packed([pair(0), replace(pair(1), desirable=None)]).desirable_B is None


def test_a_scalar_head_gives_scores_and_no_log_probs() -> None:
    policy = Policy(tiny_model())
    add_scalar_head(policy)
    assert policy.scalar is not None
    torch.nn.init.ones_(policy.scalar.weight)
    found = batch_of(METHODS["reward"], policy, packed([pair(0), pair(1)]), None)
    assert isinstance(found, Pairs)
    scores: list[Tensor] = [found.chosen.reward_B, found.rejected.reward_B]
    assert all(score.dtype == torch.float64 and score.requires_grad for score in scores)
    assert float(found.chosen.logp_B.abs().max()) == 0
