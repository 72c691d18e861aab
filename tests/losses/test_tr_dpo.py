from __future__ import annotations

import pytest
from tests.losses.sides import losses

from palate.losses.method import Moving
from palate.losses.registry import METHODS, find


def test_its_loss_is_dpo() -> None:
    a, b = [2.0, -3.0, 0.0], [-1.0, 1.0, 0.0]
    assert losses("tr-dpo", a, b, beta=0.3) == losses("dpo", a, b, beta=0.3)
    assert METHODS["tr-dpo"].initial_loss == pytest.approx(0.693147, abs=1e-6)


def test_its_reference_follows_the_policy() -> None:
    method, params = find({"name": "tr-dpo"})
    assert method.moving is not None
    assert method.moving(params) == Moving(share=0.6, every=512)
    assert method.moving(find({"name": "tr-dpo", "alpha": 1, "tau": 8})[1]) == Moving(1, 8)
    assert method.live_only == "its reference moves"


@pytest.mark.parametrize("given", [{"alpha": 0}, {"alpha": 1.1}, {"tau": 0}, {"tau": 1.5}])
def test_ranges(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find({"name": "tr-dpo", **given})
