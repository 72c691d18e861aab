from __future__ import annotations

from dataclasses import fields

import pytest

from palate.losses.dpo import DPO
from palate.losses.params import param
from palate.losses.registry import METHODS, find, register


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
