"""Binary cross-entropy on a scalar head; the positive class is the thumb down."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.sides import compute, gradients, leaf, side, sigmoid

from palate.losses.batch import Labelled
from palate.losses.method import Counts
from palate.losses.registry import METHODS, find


def judged(scores: list[float], safe: list[int]) -> Labelled:
    zero = [0.0] * len(scores)
    return Labelled(side(zero, score=scores), torch.tensor(safe, dtype=torch.float64))


def test_a_head_of_zeros_begins_at_ln_2() -> None:
    out = compute("classifier", judged([0.0, 0.0], [0, 1]))
    assert out.loss_B.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-15)
    assert out.metrics["accuracy"].tolist() == [0.5, 0.5]
    assert out.metrics["p_unsafe"].tolist() == [0.5, 0.5]
    method, params = find({"name": "classifier", "unsafe": 1.0, "safe": 1.0})
    assert method.first_loss(params) == pytest.approx(math.log(2), abs=1e-15)
    assert method.first_loss(method.params()) is None, "weights from the data are no constant"


def test_values_by_hand() -> None:
    # s = ln 3 is P(unsafe) = 3/4: −ln ¾ for an unsafe row, −ln ¼ for a safe one
    three = math.log(3)
    out = compute("classifier", judged([three, three], [0, 1]))
    assert out.loss_B.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    assert out.metrics["p_unsafe"].tolist() == pytest.approx([0.75, 0.75])
    assert out.metrics["margin"].tolist() == pytest.approx([three, -three])
    assert out.metrics["accuracy"].tolist() == [1.0, 0.0]


def test_weights_and_smoothing_by_hand() -> None:
    # ε = 0.2: targets 0.9 and 0.1. At P = ¾, unsafe: 0.9 ln(4/3) + 0.1 ln 4, times 2;
    # safe: 0.1 ln(4/3) + 0.9 ln 4, times ½
    three, low, high = math.log(3), math.log(4 / 3), math.log(4)
    batch = judged([three, three], [0, 1])
    found = compute("classifier", batch, unsafe=2.0, safe=0.5, smoothing=0.2).loss_B.tolist()
    assert found == pytest.approx([2 * (0.9 * low + 0.1 * high), 0.5 * (0.1 * low + 0.9 * high)])


def test_gradient_by_hand() -> None:
    # d/ds = w (σ(s) − target): σ(1) − 1 for unsafe, 3 σ(1) for a safe row of weight 3
    scores = leaf([1.0, 1.0])
    batch = Labelled(side([0.0, 0.0], score=scores), torch.tensor([0.0, 1.0]))
    (found,) = gradients(compute("classifier", batch, safe=3.0), scores)
    assert found == pytest.approx([sigmoid(1.0) - 1, 3 * sigmoid(1.0)])


def test_weights_from_the_counts() -> None:
    # 20 rows, 5 unsafe: 20/(2·5) = 2 and 20/(2·15) = 2/3; 5·2 = 15·⅔ = 10, 20 in all
    method, params = find({"name": "classifier"})
    assert method.resolve is not None
    found = method.resolve(params, Counts(20, desirable=15, undesirable=5))
    assert (found.unsafe, found.safe) == (2.0, pytest.approx(2 / 3))
    _, set_by_hand = find({"name": "classifier", "unsafe": 7.0})
    assert method.resolve(set_by_hand, Counts(20, 15, 5)).unsafe == 7.0


@pytest.mark.parametrize(("up", "down", "lacks"), [(4, 0, "down"), (0, 4, "up")])
def test_one_class_alone_is_refused(up: int, down: int, lacks: str) -> None:
    method, params = find({"name": "classifier"})
    assert method.resolve is not None
    with pytest.raises(ValueError, match=f"add rows with a thumb {lacks}"):
        method.resolve(params, Counts(4, up, down))


def test_what_it_declares() -> None:
    method = METHODS["classifier"]
    assert (method.head, method.reference, method.shape) == ("scalar", False, "labelled")
    assert method.prompts
    assert [name for name, one in METHODS.items() if one.prompts] == ["classifier"]
