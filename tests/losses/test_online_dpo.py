from __future__ import annotations

import pytest
from tests.losses.sides import as_given, compute, paired, softplus

from palate.losses.registry import METHODS

A, B = [2.0, -3.0, 0.0], [-1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["online-dpo", "spin"])
def test_the_loss_is_dpo_s(name: str) -> None:
    # −log σ(0.3 · (3, −4, 0))
    batch = paired(A, B)
    found = compute(name, batch, beta=0.3)
    expected = [softplus(-0.9), softplus(1.2), softplus(0.0)]
    assert found.loss_B.tolist() == pytest.approx(expected, abs=1e-12)
    dpo = compute("dpo", batch, beta=0.3)
    assert found.loss_B.tolist() == dpo.loss_B.tolist()
    assert {n: v.tolist() for n, v in found.metrics.items()} == {
        n: v.tolist() for n, v in dpo.metrics.items()
    }


@pytest.mark.parametrize("name", ["online-dpo", "spin"])
def test_each_rollout_begins_at_ln_2(name: str) -> None:
    method, params = as_given(name)
    assert method.first_loss(params) == pytest.approx(0.693147, abs=1e-6)


def test_where_the_pairs_come_from() -> None:
    online, spin = METHODS["online-dpo"].online, METHODS["spin"].online
    assert online is not None
    assert spin is not None
    assert (online.judge, online.against, online.least, online.fresh) == ("score", "own", 2, 0)
    # the demonstration is chosen without a judge, and the reference is the last iterate
    assert (spin.judge, spin.against, spin.fresh) == ("none", "demonstration", 1)
    assert METHODS["spin"].data == "demonstration"
    assert METHODS["online-dpo"].data == "prompt"
