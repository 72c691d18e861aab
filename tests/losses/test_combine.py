from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from tests.losses.answers import samples, scored
from tests.losses.sides import compute, context_of, leaf, losses, paired, side

from palate.losses.batch import Context, LossOutput, Pairs
from palate.losses.beta_dpo import BetaDPO
from palate.losses.combine import Term, combine
from palate.losses.dpo import DPO
from palate.losses.kto import KTO
from palate.losses.method import Counts, Method, Moving
from palate.losses.nll import NLL
from palate.losses.registry import METHODS, find

A, B = [2.0, -3.0, 0.5], [-1.0, 1.0, 4.0]


def run(terms: list[dict[str, object]], batch: Pairs) -> LossOutput:
    method, params = find(terms)
    return method.loss(batch, params, context_of(method, params, batch))


def test_a_sum_is_its_terms_by_weight() -> None:
    batch = Pairs(side(A, length=[3.0, 2.0, 9.0]), side(B))
    out = run([{"name": "dpo", "beta": 0.3}, {"name": "nll", "weight": 0.2}], batch)
    dpo = compute("dpo", batch, beta=0.3)
    nll = compute("nll", batch)
    assert out.loss_B.tolist() == pytest.approx((dpo.loss_B + 0.2 * nll.loss_B).tolist())
    # the run is called after the first term, whose metrics keep their names
    assert out.metrics["margin"].tolist() == dpo.metrics["margin"].tolist()
    assert out.metrics["nll/margin"].tolist() == nll.metrics["margin"].tolist()
    assert out.metrics["dpo/loss"].tolist() == dpo.loss_B.tolist()
    assert out.metrics["nll/loss"].tolist() == nll.loss_B.tolist()


def test_dpo_with_nll_is_the_sum_of_its_two_halves() -> None:
    batch = Pairs(side(A, length=[3.0, 2.0, 9.0]), side(B))
    joined = compute("dpo-nll", batch, alpha=0.7).loss_B.tolist()
    found = run([{"name": "dpo"}, {"name": "nll", "weight": 0.7}], batch).loss_B.tolist()
    assert found == pytest.approx(joined, abs=1e-12)


def test_gradients_add_up_and_metrics_have_none() -> None:
    a = leaf(A)
    out = run([{"name": "dpo", "weight": 2}, {"name": "ipo", "weight": 0.5}], paired(a, B))
    (found,) = torch.autograd.grad(out.loss_B.sum(), a)
    parts = [
        torch.autograd.grad(compute(name, paired(a, B)).loss_B.sum(), a)[0]
        for name in ("dpo", "ipo")
    ]
    torch.testing.assert_close(found, 2 * parts[0] + 0.5 * parts[1])
    assert not any(value.requires_grad for value in out.metrics.values())


def test_what_a_sum_declares() -> None:
    method, params = find([{"name": "nll"}, {"name": "wpo", "beta": 0.4}, {"name": "tdpo"}])
    assert method.name == "nll+wpo+tdpo"
    assert method.reference, "one term needs it"
    assert method.sums == ("log_sum_p2", "kl")
    assert method.live_only
    assert method.initial_loss is None, "nll has no constant start"
    assert asdict(params) == {
        "nll": {},
        "wpo": {"beta": 0.4},
        "tdpo": {"beta": 0.1, "alpha": 0.5},
    }
    # ln 2 + 0.5 · 25
    assert find([{"name": "dpo"}, {"name": "ipo", "weight": 0.5}])[0].initial_loss == pytest.approx(
        13.193147, abs=1e-6
    )
    found = find([{"name": "dpo"}, {"name": "apo-zero", "weight": 0.5}])[0]
    assert found.formula == "[−log σ(β(a − b))] + 0.5·[1 − σ(βa) + σ(βb)]"


def test_each_term_has_its_own_state_and_statistic() -> None:
    # beta-dpo and bco both keep state; aot has values by row
    method, params = find([{"name": "beta-dpo"}, {"name": "bco", "weight": 3}, {"name": "aot"}])
    batch = paired(A, B)
    context = context_of(method, params, batch)
    assert set(context.state) == {
        "beta-dpo/mean",
        "beta-dpo/spread",
        "bco/reward_sum",
        "bco/reward_count",
    }
    assert set(context.statistic) == {"beta-dpo/beta", "bco/delta"}
    assert set(context.per_row) == {"beta-dpo/weight", "aot/reference_margin"}
    expected = [
        x + 3 * y + z
        for x, y, z in zip(
            losses("beta-dpo", A, B), losses("bco", A, B), losses("aot", A, B), strict=True
        )
    ]
    assert method.loss(batch, params, context).loss_B.tolist() == pytest.approx(expected)
    assert method.advance is not None
    after = method.advance(batch, params, context.state)
    # β(Σa + Σb) = 0.1(−0.5 + 4); h = (3, −4, −3.5), a tenth of their mean −1.5
    assert after["bco/reward_sum"].item() == pytest.approx(0.35)
    assert after["bco/reward_count"].item() == 6
    assert after["beta-dpo/mean"].item() == pytest.approx(-0.15)
    assert context.state["bco/reward_count"].item() == 0, "state is a value"


def test_a_term_without_state_asks_for_none() -> None:
    method, _ = find([{"name": "dpo"}, {"name": "nll"}])
    assert (method.statistic, method.initial_state, method.advance) == (None, None, None)
    assert (method.moving, method.resolve, method.mismatched) == (None, None, False)


def test_a_moving_reference_and_counts_reach_their_terms() -> None:
    method, params = find([{"name": "nll"}, {"name": "tr-dpo", "alpha": 0.2, "tau": 7}])
    assert method.moving is not None
    assert method.moving(params) == Moving(0.2, 7)
    method, params = find([{"name": "kto", "weight": 2}])
    assert method.resolve is not None
    assert method.mismatched
    assert method.resolve(params, Counts(100, 10, 90)).kto == KTO(desirable=9.0, undesirable=1.0)


def test_one_term_of_weight_1_is_the_method_itself() -> None:
    assert find([{"name": "dpo", "beta": 0.3}]) == (METHODS["dpo"], DPO(0.3))
    assert find([{"name": "dpo", "weight": 2}])[0].initial_loss == pytest.approx(1.386294, abs=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["dpo", "kto"], "dpo and kto cannot be summed: the data they need differ .pair, labelled"),
        (["dpo", "sft"], "for pairs there is nll"),
        (["dpo", "reward"], "their heads differ .own, scalar"),
        (["dpo", "nll", "dpo"], "a sum names a method twice: dpo, nll, dpo"),
        (["nll", "dpo", "reward"], "cannot be summed"),
    ],
)
def test_what_cannot_be_added_is_refused(terms: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find([{"name": name} for name in terms])


def named(name: str, **changes: object) -> Term:
    method: Method = replace(METHODS["kto"], name=name, **changes)  # type: ignore[arg-type]
    return Term(method, KTO(), 1.0)


def test_two_statistics_over_different_examples_are_refused_wherever_they_stand() -> None:
    plain = named("plain", statistic=None, mismatched=False)
    kto, other = named("kto"), named("other", mismatched=False)
    combine([plain, kto])
    with pytest.raises(ValueError, match="kto and other cannot be summed: the examples of their"):
        combine([plain, kto, other])


def test_denominators_must_agree() -> None:
    one = Term(METHODS["nll"], NLL(), 1.0)
    other = Term(replace(METHODS["dpo"], normalise="tokens"), DPO(), 1.0)
    with pytest.raises(ValueError, match=r"what they divide by differ .examples, tokens"):
        combine([one, other])


@pytest.mark.parametrize("weight", [0, -1, True, "2", None, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_0(weight: object) -> None:
    with pytest.raises(ValueError, match="the weight of nll must be a number above 0"):
        find([{"name": "dpo"}, {"name": "nll", "weight": weight}])


def test_a_sum_names_at_least_one() -> None:
    with pytest.raises(ValueError, match="empty list"):
        find([])


def test_names_that_begin_alike_keep_their_values_apart() -> None:
    # "beta" is the beginning of "beta-dpo": each term reads its own state only
    seen: dict[str, set[str]] = {}

    def spy(name: str) -> Term:
        def loss(batch: Pairs, params: BetaDPO, context: Context) -> LossOutput:
            seen[name] = set(context.state)
            return LossOutput(batch.chosen.logp_B, {})

        return Term(replace(METHODS["beta-dpo"], name=name, loss=loss), BetaDPO(), 1.0)

    method, params = combine([spy("beta"), spy("beta-dpo")])
    batch = paired(A, B)
    method.loss(batch, params, context_of(method, params, batch))
    assert seen == {"beta": {"mean", "spread"}, "beta-dpo": {"mean", "spread"}}


@pytest.mark.parametrize("other", ["rloo", "ppo", "reinforce++"])
def test_two_ways_to_give_credit_are_refused(other: str) -> None:
    names = ["grpo", other]
    with pytest.raises(ValueError, match=r"grpo and .* cannot be summed: (each gives|their heads)"):
        find([{"name": name} for name in names], sampled=True)


@pytest.mark.parametrize(
    "names", [["online-dpo", "spin"], ["online-dpo", "xpo"], ["sppo", "online-dpo"]]
)
def test_two_ways_to_sample_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be summed: they sample in different ways"):
        find([{"name": name} for name in names], sampled=True)


def test_a_term_of_pairs_goes_beside_one_that_samples() -> None:
    method, params = find([{"name": "xpo"}, {"name": "nll", "weight": 2}], sampled=True)
    assert method.online == METHODS["xpo"].online
    told = {"reference_chosen": torch.zeros(3)}
    batch = Pairs(side(A), side(B), told)
    out = method.loss(batch, params, Context())
    expected = compute("xpo", batch).loss_B + 2 * compute("nll", batch).loss_B
    assert out.loss_B.tolist() == pytest.approx(expected.tolist())


def test_credit_with_a_weight_reads_its_own_parameters() -> None:
    # R = (1 − ½·2, 0 − ½·0) = (0, 0) with β = ½; a weight multiplies the loss, and only that
    known = scored([1.0, 0.0], [0, 0], ratio=[2.0, 0.0])
    method, params = find([{"name": "rloo", "beta": 0.5, "weight": 3}], sampled=True)
    assert method.credit is not None
    assert method.credit(known, params, {}).advantage_N.tolist() == [0.0, 0.0]
    batch = samples([-1.0, -2.0], [1.0, 1.0], [4.0, -4.0])
    assert method.loss(batch, params, Context()).loss_B.tolist() == [-12.0, 12.0]


def test_a_weighted_term_keeps_its_state_its_mixture_and_its_reference() -> None:
    method, params = find([{"name": "ppo", "beta": 0.3, "weight": 2}], sampled=True)
    assert method.credit_state is not None
    assert method.credit_state(params)["beta"].item() == 0.3
    assert method.head == "value"
    method, params = find([{"name": "nash-md", "mixture": 0.4, "weight": 2}], sampled=True)
    assert method.online is not None
    assert method.online.mixture is not None
    assert method.online.mixture(params) == 0.4
    for beta in (0.0, 0.1):
        method, _ = find([{"name": "grpo", "beta": beta, "weight": 2}], sampled=True)
        assert method.reference is (beta > 0)


def test_a_name_with_signs_makes_a_field() -> None:
    method, params = find([{"name": "reinforce++", "gamma": 0.5, "weight": 2}], sampled=True)
    assert asdict(params)["reinforce__"]["gamma"] == 0.5
    assert method.credit is not None
    # to go: ½·2, 2; deviations ∓½ over √½
    found = method.credit(scored([2.0], [0], [2]), params, {}).advantage_N.tolist()
    assert found == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-7)
