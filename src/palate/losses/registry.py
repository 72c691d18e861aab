"""The methods, one line each. The loop knows data shapes, never a method's name.

Other packages bring theirs through the entry point group `palate.losses`, whose objects are
`Method`s (examples/custom_loss is one); they are looked up when a name is not one of ours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

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
    hinge,
    ipo,
    kto,
    label_noise,
    length,
    nca,
    nll,
    orpo,
    reward,
    sft,
    sppo,
    tdpo,
    tr_dpo,
    wpo,
)
from palate.losses.combine import Term, combine
from palate.losses.method import Method
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


def find(config: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Method, Any]:
    """The method and its checked parameters, from a recipe's `method`: a mapping, or a sum."""
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
