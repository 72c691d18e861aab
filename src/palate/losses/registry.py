"""The methods, one line each. The loop knows data shapes, never a method's name.

Other packages bring theirs through the entry point group `palate.losses`, whose objects are
`Method`s (examples/custom_loss is one); they are looked up when a name is not one of ours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any, Protocol

from palate.losses import (
    aot,
    apo,
    bco,
    beta_dpo,
    cal_dpo,
    classifier,
    cpo,
    discopop,
    dpo,
    exo,
    f_dpo,
    grpo,
    hinge,
    ipo,
    kto,
    label_noise,
    length,
    nash_md,
    nca,
    nll,
    online_dpo,
    orpo,
    ppo,
    reinforce_pp,
    reward,
    rloo,
    sft,
    spo,
    sppo,
    tdpo,
    tr_dpo,
    wpo,
    xpo,
)
from palate.losses.combine import Term, combine
from palate.losses.method import Method, Online
from palate.losses.params import build_params

GROUP = "palate.losses"
METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method under its name; a name can be taken once."""
    if method.name in METHODS:
        raise ValueError(f"a method named '{method.name}' is registered already")
    METHODS[method.name] = method
    return method


# Paired, with a reference.
register(dpo.METHOD)
register(label_noise.CDPO)
register(label_noise.ROBUST_DPO)
register(ipo.METHOD)
register(hinge.HINGE)
register(nll.DPO_NLL)
register(length.LN_DPO)
register(length.LD_DPO)
register(length.LENGTH_DPO)
register(apo.ZERO)
register(apo.DOWN)
register(aot.METHOD)
register(aot.UNPAIRED)
register(nca.METHOD)
register(bco.METHOD)
register(exo.METHOD)
register(discopop.METHOD)
register(f_dpo.METHOD)
register(tdpo.METHOD)
register(tdpo.FIRST)
register(wpo.METHOD)
register(beta_dpo.METHOD)
register(cal_dpo.METHOD)
register(tr_dpo.METHOD)
register(sppo.METHOD)
# Paired, without one.
register(cpo.METHOD)
register(cpo.SIMPO)
register(orpo.METHOD)
register(hinge.SLIC)
register(nll.METHOD)
register(reward.METHOD)
# Thumbs, good answers, text.
register(kto.METHOD)
register(classifier.METHOD)
register(sft.METHOD)
register(sft.PRETRAIN)
# What the policy samples itself: pairs and the best of n, then policy gradients.
register(online_dpo.ONLINE_DPO)
register(online_dpo.SPIN)
register(xpo.METHOD)
register(sft.REJECTION)
register(grpo.GRPO_METHOD)
register(grpo.DAPO_METHOD)
register(grpo.DR_GRPO_METHOD)
register(grpo.GSPO_METHOD)
register(rloo.METHOD)
register(reinforce_pp.METHOD)
register(ppo.METHOD)
register(spo.METHOD)
register(nash_md.METHOD)


def plugins() -> list[str]:
    """Names of methods that other installed packages offer."""
    return sorted({point.name for point in entry_points(group=GROUP)} - set(METHODS))


def lookup(name: str) -> Method:
    """The method of that name; raises `ValueError` naming the nearest, or all."""
    if name in METHODS:
        return METHODS[name]
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _load(point)
    names = [*METHODS, *plugins()]
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"there is: {', '.join(names)}"
    raise ValueError(f"no method is called '{name}'; {hint}")


def _load(point: Any) -> Method:
    """Another package's method, under the name of its entry point."""
    whose = f"the method '{point.name}' of {point.dist.name if point.dist else point.value}"
    try:
        method = point.load()
    except Exception as error:
        raise ValueError(f"{whose} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(method, Method) or method.name != point.name:
        raise ValueError(f"{whose} is no palate.losses.method.Method of that name")
    return method


def find(
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, sampled: bool = False
) -> tuple[Method, Any]:
    """The method and its checked parameters, from a recipe's `method`: a mapping, or a sum.

    With `sampled` it learns from its own samples: the recipe has a `rollout`. Raises `ValueError`
    where the two do not go together.
    """
    method, params = _found(config)
    if method.reference_if is not None:
        method = replace(method, reference=method.reference_if(params), reference_if=None)
    return _sampling(method) if sampled else _given(method), params


class Recipe(Protocol):
    """The part of a recipe that decides its method."""

    @property
    def method(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The method by name with its parameters, or the summands."""
        ...

    @property
    def rollout(self) -> object | None:
        """How the model samples what it learns from; None where the data is all there is."""
        ...


def method_of(recipe: Recipe) -> tuple[Method, Any]:
    """The recipe's method, and its checked parameters."""
    return find(recipe.method, sampled=recipe.rollout is not None)


def _sampling(method: Method) -> Method:
    """The method on samples of its own: pairs, or the best as a demonstration."""
    if method.online is None and method.shape not in {"pair", "demonstration"}:
        raise ValueError(
            f"{method.name} does not learn from samples of its own: leave `rollout` out, or take a "
            "method of pairs (online-dpo), of demonstrations (rejection-sampling) or of samples "
            "(grpo)"
        )
    if method.head == "scalar":
        raise ValueError(f"{method.name} trains no model that writes: leave `rollout` out")
    if method.live_only or method.mismatched:
        raise ValueError(
            f"{method.name} cannot learn from samples of its own yet: "
            f"{method.live_only or 'it pairs prompts with answers to others'}; take dpo or ipo"
        )
    if method.online is None:
        return replace(method, online=Online(least=2))
    if method.online.always:
        return method
    # Win rates that a judge tells are no constants, and so the first loss is none.
    online = replace(method.online, always=True)
    return replace(method, online=online, initial_loss=None, initial=None)


def _given(method: Method) -> Method:
    """The method on the data's own answers."""
    if method.online is not None and method.online.always:
        need = "" if method.online.judge == "none" else "judge: …, "
        raise ValueError(
            f"{method.name} learns from answers that it samples: add a section such as "
            f"`rollout: {{{need}prompts: 8}}` to the recipe"
        )
    return method if method.online is None else replace(method, online=None)


def _found(config: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Method, Any]:
    if isinstance(config, Mapping):
        return _one(config)
    terms = []
    for entry in config:
        given = dict(entry)
        weight = given.pop("weight", 1.0)
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise ValueError(f"the weight of {given.get('name')} must be a number above 0")
        terms.append(Term(*_one(given), weight=float(weight)))
    if not terms:
        raise ValueError("method is an empty list: name at least one, such as [{name: dpo}]")
    if len(terms) == 1 and terms[0].weight == 1:
        return terms[0].method, terms[0].params
    return combine(terms)


def _one(config: Mapping[str, Any]) -> tuple[Method, Any]:
    given = dict(config)
    name = str(given.pop("name"))
    method = lookup(name)
    return method, build_params(method.params, given, name)
