from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from tests.losses.sides import compute, losses, side

from palate.losses.batch import Labelled, Pairs
from palate.losses.dpo import DPO
from palate.losses.method import Method, Online
from palate.losses.params import param
from palate.losses.registry import METHODS, find, lookup, method_of, plugins, register


def test_a_method_and_its_parameters() -> None:
    method, params = find({"name": "dpo", "beta": 0.3})
    assert method.name == "dpo"
    assert params == DPO(beta=0.3)
    assert find({"name": "dpo"})[1] == DPO(beta=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "dop"}, "no method is called 'dop'; did you mean 'dpo'"),
        ({"name": "zzzzz"}, "there is: dpo, cdpo"),
        ({"name": "dpo", "betta": 1}, "no parameter 'betta'; did you mean 'beta'"),
        ({"name": "sft", "beta": 1}, "its parameters: it has none"),
        ({"name": "dpo", "beta": 0}, "must be above 0.0, got 0"),
        ({"name": "dpo", "beta": "high"}, "must be a number"),
        ({"name": "dpo", "beta": float("nan")}, "must be finite"),
        ({"name": "dpo", "beta": True}, "must be float, got True"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        find(given)


def test_a_name_can_be_taken_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register(METHODS["dpo"])


def test_every_method_documents_itself() -> None:
    for method in METHODS.values():
        assert method.title
        assert method.formula
        assert method.paper
        assert method.when
        for one in fields(method.params):
            assert one.metadata["description"]


def test_param_keeps_range_and_description() -> None:
    found = param(0.1, "x", above=0.0)
    assert found.default == 0.1
    assert found.metadata["above"] == 0.0


class Point:
    """An entry point of another package, as importlib.metadata has them."""

    def __init__(self, name: str, method: object) -> None:
        self.name, self.method, self.value, self.dist = name, method, "other.losses:METHOD", None

    def load(self) -> object:
        if isinstance(self.method, Exception):
            raise self.method
        return self.method


def offer(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    def found(group: str) -> list[Point]:
        assert group == "palate.losses"
        return list(points)

    monkeypatch.setattr("palate.losses.registry.entry_points", found)


def test_methods_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = replace(METHODS["dpo"], name="theirs")
    offer(monkeypatch, Point("theirs", theirs), Point("dpo", replace(theirs, name="dpo")))
    assert find({"name": "theirs", "beta": 0.3}) == (theirs, DPO(0.3))
    assert plugins() == ["theirs"], "dpo is ours"
    assert lookup("dpo") is METHODS["dpo"]
    assert find([{"name": "theirs"}, {"name": "nll", "weight": 2}])[0].name == "theirs+nll"
    with pytest.raises(ValueError, match="did you mean 'theirs'"):
        lookup("thiers")
    assert "theirs" not in METHODS, "looked up, not registered"


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        (ImportError("no module named x"), "cannot be loaded: ImportError: no module named x"),
        (object(), "is no palate.losses.method.Method of that name"),
        (METHODS["dpo"], "is no palate.losses.method.Method of that name"),
    ],
)
def test_what_is_wrong_with_another_package_is_named(
    monkeypatch: pytest.MonkeyPatch, offered: object, message: str
) -> None:
    offer(monkeypatch, Point("theirs", offered))
    with pytest.raises(ValueError, match=f"'theirs' of other.losses:METHOD {message}"):
        lookup("theirs")


def example(method: Method) -> Any:
    """Three examples of the method's data at policy = reference, of unequal lengths."""
    zero, lengths = [0.0, 0.0, 0.0], ([3.0, 5.0, 8.0], [4.0, 2.0, 8.0])
    w, l = (  # noqa: E741 the papers' letters
        side(zero, length=n, score=zero, common_ratio=zero, kl=zero) for n in lengths
    )
    if method.shape == "pair":
        return Pairs(w, l)
    assert method.shape == "labelled"
    return Labelled(w, torch.tensor([1.0, 0.0, 1.0]))


STARTS = [name for name, method in METHODS.items() if method.initial_loss is not None]


@pytest.mark.parametrize("name", STARTS)
def test_the_declared_start_is_the_loss_at_policy_and_reference_alike(name: str) -> None:
    batch = example(METHODS[name])
    found = compute(name, batch, batch if METHODS[name].mismatched else None).loss_B
    assert found.mean().item() == pytest.approx(METHODS[name].initial_loss, rel=1e-12)


def test_the_starts_of_the_specification() -> None:
    # β = τ = 0.1, ε = 0.1, the table of the methods' specification
    expected = {
        "dpo": 0.693147,
        "f-dpo": 0.693147,
        "cdpo": 0.693147,
        "robust-dpo": 0.693147,
        "hinge": 1,
        "ipo": 25,
        "sppo": 50,
        "nca": 1.386294,
        "apo-zero": 1,
        "apo-down": 1,
        "kto": 0.5,
        "discopop": 0.846574,
    }
    found = {name: METHODS[name].initial_loss for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)


BLIND = ("dpo", "cdpo", "robust-dpo", "ipo", "hinge", "exo", "discopop", "aot", "tr-dpo")
SEEING = ("nca", "apo-zero", "apo-down", "sppo", "cal-dpo", "f-dpo")


@pytest.mark.parametrize("name", BLIND)
def test_losses_of_the_margin_are_blind_to_what_both_answers_gain(name: str) -> None:
    # a and b enter as a − b alone
    calm, moved = (losses(name, [2.0 + c], [-1.0 + c]) for c in (0.0, 5.0))
    assert calm == pytest.approx(moved, abs=1e-12)


@pytest.mark.parametrize("name", SEEING)
def test_losses_of_each_answer_are_not(name: str) -> None:
    calm, moved = (losses(name, [2.0 + c], [-1.0 + c])[0] for c in (0.0, 5.0))
    assert abs(calm - moved) > 1e-3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "dpo", "beta": 0.7}, 0.693147),  # β only scales a margin of 0
        ({"name": "ipo", "tau": 0.5}, 1.0),  # (1/(2·½))²
        ({"name": "sppo", "eta": 1.0}, 0.5),  # 2·(½)²
        ({"name": "exo", "epsilon": 0.25}, 0.143841),  # −ln 2 − ½ ln(¾·¼)
        ({"name": "cal-dpo", "beta": 0.5}, 1.693147),  # ln 2 + 1²
        ({"name": "reward", "margin": 1.0}, 1.313262),  # ln(1 + e)
        ({"name": "kto", "desirable": 1.0, "undesirable": 1.0}, 0.5),
        ({"name": "kto", "desirable": 2.0, "undesirable": 1.0}, None),  # it depends on the thumbs
        ([{"name": "ipo", "tau": 0.5}, {"name": "dpo", "weight": 2.0}], 2.386294),  # 1 + 2 ln 2
    ],
)
def test_the_first_loss_at_other_parameters(given: Any, expected: float | None) -> None:
    method, params = find(given)
    assert method.first_loss(params) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.online and m.online.always])
def test_what_samples_for_itself_is_refused_without_a_rollout(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(name)} learns from answers that it samples"):
        find({"name": name})
    method, params = find({"name": name}, sampled=True)
    assert method.online == METHODS[name].online
    assert isinstance(params, METHODS[name].params)


def test_the_section_that_is_missing_names_a_judge_where_one_is_needed() -> None:
    with pytest.raises(ValueError, match=r"`rollout: \{judge: …, prompts: 8\}` to the recipe$"):
        find({"name": "grpo"})
    with pytest.raises(ValueError, match=r"`rollout: \{prompts: 8\}` to the recipe$"):
        find({"name": "spin"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "kto"}, "kto does not learn from samples of its own: leave `rollout` out"),
        ({"name": "classifier"}, "classifier does not learn from samples of its own"),
        ({"name": "pretrain"}, "pretrain does not learn from samples of its own"),
        ({"name": "reward"}, "reward trains no model that writes: leave `rollout` out"),
        ({"name": "tdpo"}, "tdpo cannot learn from .* yet: it reads the reference's whole"),
        ({"name": "tr-dpo"}, "tr-dpo cannot learn from .* yet: its reference moves; take dpo"),
        # nor as a term beside one that can
        ([{"name": "online-dpo"}, {"name": "tdpo"}], r"online-dpo\+tdpo cannot learn from"),
        ([{"name": "sppo"}, {"name": "tr-dpo"}], r"sppo\+tr-dpo cannot learn from"),
    ],
)
def test_what_cannot_learn_from_its_own_samples_is_refused_with_a_rollout(
    given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        find(given, sampled=True)
    assert "\n" not in str(raised.value)


def test_a_method_of_pairs_draws_them_where_there_is_a_rollout() -> None:
    assert find({"name": "ipo"})[0].online is None
    assert find({"name": "ipo"}, sampled=True)[0].online == Online(least=2)
    assert find({"name": "sft"}, sampled=True)[0].online == Online(least=2), "the best of n"


def test_told_win_rates_leave_sppo_without_a_constant_start() -> None:
    method, params = find({"name": "sppo"}, sampled=True)
    assert method.online is not None
    assert (method.online.judge, method.online.always) == ("preference", True)
    assert method.first_loss(params) is None
    given, params = find({"name": "sppo"})
    assert given.online is None
    assert given.first_loss(params) == 50.0


TIED = ("grpo", "dapo", "dr-grpo", "gspo", "rloo", "reinforce++", "spo")


@pytest.mark.parametrize("name", TIED)
def test_without_a_tie_there_is_no_reference(name: str) -> None:
    for beta, needed in ((0.0, False), (0.1, True)):
        method, _ = find({"name": name, "beta": beta}, sampled=True)
        assert method.reference is needed
        assert method.reference_if is None, "decided"


@pytest.mark.parametrize("name", ["ppo", "nash-md"])
def test_a_tie_that_cannot_be_0_keeps_its_reference(name: str) -> None:
    assert find({"name": name}, sampled=True)[0].reference
    with pytest.raises(ValueError, match=r"must be above 0\.0"):
        find({"name": name, "beta": 0.0}, sampled=True)


def test_a_recipe_decides_by_its_rollout() -> None:
    @dataclass(frozen=True)
    class Plain:
        method: dict[str, Any]
        rollout: object | None = None

    assert method_of(Plain({"name": "dpo"}))[0].online is None
    assert method_of(Plain({"name": "dpo"}, object()))[0].online == Online(least=2)
