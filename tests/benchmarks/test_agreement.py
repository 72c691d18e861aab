"""The comparison with TRL's losses, as far as it goes without TRL."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.agreement.cases import ABSENT, CASES, Case
from benchmarks.agreement.material import Answer, Material, draw, far, read_material
from benchmarks.agreement.ours import Found, compute, groups, labels
from benchmarks.agreement.table import TOLERANCE, compare, largest, markdown
from benchmarks.agreement.theirs import Sequences, StandIn
from tests.losses.sides import sigmoid, softplus

from palate.losses.registry import METHODS, find

DPO = next(case for case in CASES if case.name == "dpo")


def answer(policy: list[float], reference: list[float], score: float = 0.0) -> Answer:
    return Answer(tuple(policy), tuple(reference), tuple(-1.0 for _ in policy), score)


# a = 2 over two tokens and b = −1 over one; the mismatched answer has log-ratio 1
ONE = Material(
    chosen=(answer([-1.0, -2.0], [-2.0, -3.0], 1.0),),
    rejected=(answer([-4.0], [-3.0], -0.5),),
    mismatched=(answer([-1.0], [-2.0]),),
)


def test_every_method_is_compared_or_said_to_be_absent() -> None:
    compared = {str(c.ours["name"]) for c in CASES if not isinstance(c.ours, list)}
    given = {name for name, one in METHODS.items() if one.data != "prompt"}
    assert compared | set(ABSENT) | {"spin"} == given, (
        "what samples for itself has no batch to give"
    )
    assert not compared & set(ABSENT)
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_computes(case: Case) -> None:
    find(case.ours)
    material = far(case.far) if case.far else draw(1)
    found = compute(case, material)
    assert len(found.losses) == len(groups(case.group, len(material.chosen)))
    assert all(math.isfinite(x) for x in found.losses)
    assert len(found.gradients) == 2 * len(material.chosen)
    assert all(math.isfinite(x) for row in found.gradients for x in row)
    assert any(x != 0 for row in found.gradients for x in row)


def test_ours_by_hand() -> None:
    # z = 0.3 · 3; every token of an answer has the same gradient, ∓βσ(−z)
    found = compute(DPO, ONE)
    assert found.losses == pytest.approx([softplus(-0.9)])
    push = 0.3 * sigmoid(-0.9)
    assert found.gradients[0] == pytest.approx([-push, -push])
    assert found.gradients[1] == pytest.approx([push])


def test_rewards_are_of_the_scores() -> None:
    case = next(case for case in CASES if case.trainer == "reward")
    # −log σ(1.5) + 0.02 · (½)²; d/dr_w = −σ(−1.5) + 2 · 0.02 · ½
    found = compute(case, ONE)
    assert found.losses == pytest.approx([softplus(-1.5) + 0.005])
    assert found.gradients[0] == pytest.approx([-sigmoid(-1.5) + 0.02])


def test_kto_sees_one_answer_of_each_pair_and_the_mismatched_ones() -> None:
    case = next(case for case in CASES if case.name == "kto")
    assert labels(3) == [True, False, True]
    # z₀ = 1, a = 2, λ_D = 1.2
    found = compute(case, ONE)
    assert found.losses == pytest.approx([1.2 * sigmoid(-0.3)])
    assert found.gradients[1] == [0.0]
    drift = [sum(a.policy) - sum(a.reference) for a in draw(0).mismatched]
    assert sum(drift) / len(drift) > 0.1, "z₀ must not be stuck at 0"


def test_groups_are_what_the_other_side_sees_at_once() -> None:
    assert groups(0, 5) == [range(5)]
    assert groups(2, 5) == [range(2), range(2, 4), range(4, 5)]
    assert groups(1, 2) == [range(1), range(1, 2)]


def test_material_is_drawn_from_its_seed_and_written_without_loss(tmp_path: Path) -> None:
    material = draw(3)
    assert material == draw(3)
    assert material != draw(4)
    material.write(tmp_path / "material.json")
    assert read_material(tmp_path / "material.json") == material
    for answers in (material.chosen, material.rejected, material.mismatched):
        for one in answers:
            assert len(one.policy) == len(one.reference) == len(one.log_sum_p2)
            assert max(one.policy) < 0, "0 is what stands where no token is"


def test_far_material_is_far_both_ways() -> None:
    material = far(500.0)
    ratios = [
        [sum(a.policy) - sum(a.reference) for a in side]
        for side in (material.chosen, material.rejected)
    ]
    assert ratios == [[500.0, -500.0], [-500.0, 500.0]]


def test_the_stand_in_has_log_probs_where_the_answer_is_predicted() -> None:
    sequences = Sequences(DPO, ONE)
    rows = sequences.rows([0, 1])
    assert rows["input_ids"].tolist() == [[2, 1, 1, 1, 1], [3, 1, 1, 1, 0]]
    assert rows["attention_mask"].sum(1).tolist() == [5, 4]
    assert rows["completion_mask"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
    asked = rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)
    out = StandIn(sequences, sequences.policy)(rows["input_ids"], labels=asked)
    assert out.log_probs.tolist() == [[0.0, 0.0, -1.0, -2.0], [0.0, 0.0, -4.0, 0.0]]
    out = StandIn(sequences, sequences.reference)(rows["input_ids"], labels=asked)
    assert out.log_probs.tolist() == [[0.0, 0.0, -2.0, -3.0], [0.0, 0.0, -3.0, 0.0]]
    with pytest.raises(AssertionError, match="the tokens of the answers"):
        StandIn(sequences, sequences.policy)(rows["input_ids"], labels=rows["input_ids"])


def test_the_stand_in_s_logits_have_these_log_probs() -> None:
    case = next(case for case in CASES if case.name == "orpo")
    sequences = Sequences(case, ONE)
    rows = sequences.rows([0, 1])
    logits = StandIn(sequences, sequences.policy)(rows["input_ids"]).logits
    picked = logits.log_softmax(-1)[:, :-1].gather(-1, rows["input_ids"][:, 1:, None])[..., 0]
    assert picked[0].tolist() == pytest.approx([-math.log(2)] * 2 + [-1.0, -2.0], abs=1e-6)
    assert picked[1, :3].tolist() == pytest.approx([-math.log(2)] * 2 + [-4.0], abs=1e-6)
    # one nat more of the answer's log-prob is one nat, although the rest gets less
    picked[0, 2].backward()
    assert sequences.policy[0].grad is not None
    assert sequences.policy[0].grad.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_groups_of_sequences_are_pairs_with_their_labels() -> None:
    case = replace(DPO, group=2)
    (first, second) = Sequences(case, draw(0, pairs=3)).groups()
    assert (first.chosen, first.rejected, first.mismatched) == ([0, 1], [3, 4], [6, 7])
    assert first.up == [True, False]
    assert (second.chosen, second.up) == ([2], [True])


def found(loss: float, gradient: float = 0.0) -> dict[str, Any]:
    return {"losses": [loss], "gradients": [[gradient]]}


@pytest.mark.parametrize(
    ("theirs", "why", "wrong", "verdict"),
    [
        (found(1.0), "", False, "equal"),
        (found(1.0 + 1e-4), "", True, "DIFFERENT, and unexplained"),
        (found(1.0, 1e-4), "", True, "DIFFERENT, and unexplained"),
        (found(math.nan), "", True, "DIFFERENT, and unexplained"),
        (found(1.0, math.nan), "", True, "DIFFERENT, and unexplained"),
        (found(2.0), "sums", False, "sums"),
        (found(math.nan), "sums", False, "sums"),
        (found(1.0), "sums", True, "explained, but equal"),
    ],
)
def test_a_difference_needs_an_explanation_and_an_explanation_a_difference(
    theirs: dict[str, Any], why: str, wrong: bool, verdict: str
) -> None:
    row = compare(replace(DPO, differs=why), Found([1.0], [[0.0]]), theirs)
    assert (row.wrong, row.verdict) == (wrong, verdict)
    assert verdict in markdown([row], ABSENT)
    assert "| tdpo | – | – | – | not in TRL |" in markdown([row], ABSENT)


def test_large_losses_are_compared_relative_to_their_size() -> None:
    assert largest([(50.0, 50.0 + 50 * TOLERANCE)]) == pytest.approx(TOLERANCE)
    assert largest([(0.5, 0.5), (0.1, 0.2)]) == pytest.approx(0.1)
    assert math.isnan(largest([(0.0, 0.0), (1.0, math.inf)]))


def test_a_wrong_loss_would_be_noticed() -> None:
    # β one part in a thousand off, on random material
    material = draw(0)
    right = compute(DPO, material)
    assert not isinstance(DPO.ours, list)
    off = compute(replace(DPO, ours={**DPO.ours, "beta": 0.3003}), material)
    theirs = {"losses": off.losses, "gradients": off.gradients}
    assert compare(DPO, right, theirs).wrong


def test_the_page_has_a_line_for_every_comparison() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "parity.md").read_text(encoding="utf-8")
    for case in CASES:
        verdict = case.differs or "equal"
        lines = [line for line in page.splitlines() if line.startswith(f"| {case.name} |")]
        assert len(lines) == 1, case.name
        assert f"`{case.theirs_name}`" in lines[0]
        assert lines[0].endswith(f"| {verdict} |")
    for name, why in ABSENT.items():
        assert f"| {name} | – | – | – | {why} |" in page
