"""Weighted sums of losses: `method: [{name: dpo}, {name: nll, weight: 0.2}]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass, replace
from itertools import combinations
from typing import Any

from torch import Tensor

from palate.losses.batch import Context, LossOutput, State
from palate.losses.method import Counts, Method, Online, StepStatistic

_BETWEEN = "/"


@dataclass(frozen=True, slots=True)
class Term:
    """One summand: a method, its parameters, and its weight."""

    method: Method
    params: Any
    weight: float

    @property
    def prefix(self) -> str:
        """Goes before the names of what belongs to this term alone."""
        return f"{self.method.name}{_BETWEEN}"


def combine(terms: Sequence[Term]) -> tuple[Method, Any]:
    """The sum as a method like any other, and its parameters (a field for each term).

    Statistics, state and metrics carry the term's name, save that the first term's metrics
    keep theirs: it is what the run is called after. Raises `ValueError` where terms cannot be
    added: other data, other heads, another denominator, or the same method twice.
    """
    first = terms[0].method
    names = [term.method.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"a sum names a method twice: {', '.join(names)}")
    for one, other in combinations(terms, 2):
        _check_addable(one.method, other.method)
    moving = [term for term in terms if term.method.moving]
    if len(moving) > 1:
        raise ValueError(f"a sum has one reference that moves, and these are several: {names}")
    initial = [term.method.first_loss(term.params) for term in terms]
    known = [value for value in initial if value is not None]
    method = replace(
        first,
        name="+".join(names),
        title=" + ".join(_weighted(term.weight, term.method.title) for term in terms),
        formula=" + ".join(_weighted(term.weight, f"[{term.method.formula}]") for term in terms),
        paper="; ".join(dict.fromkeys(term.method.paper for term in terms)),
        params=_params_type(terms),
        loss=_loss(terms),
        reference=any(term.method.reference for term in terms),
        initial=None,
        initial_loss=None
        if len(known) < len(initial)
        else sum(t.weight * v for t, v in zip(terms, known, strict=True)),
        sums=tuple(dict.fromkeys(name for term in terms for name in term.method.sums)),
        online=_online(terms),
        moving=(lambda params: moving[0].method.moving(_of(params, moving[0])))  # type: ignore[misc]
        if moving
        else None,
        mismatched=any(term.method.mismatched for term in terms),
        statistic=_statistic(terms),
        initial_state=_initial_state(terms),
        advance=_advance(terms),
        resolve=_resolve(terms),
        reference_if=_reference_if(terms),
        credit=_credit(terms),
        credit_state=_credit_state(terms),
    )
    return method, method.params(**{_field(t): t.params for t in terms})


def _check_addable(one: Method, other: Method) -> None:
    for what, ours, theirs in (
        ("the data they need", one.shape, other.shape),
        ("their heads", one.head, other.head),
        ("what they divide by", one.normalise, other.normalise),
        ("the examples of their step statistic", _over(one), _over(other)),
    ):
        if ours != theirs and None not in {ours, theirs}:
            raise ValueError(
                f"{one.name} and {other.name} cannot be summed: {what} differ ({ours}, {theirs})"
                + ("; for pairs there is nll" if other.name == "sft" else "")
            )
    # Of one data shape both give credit or neither does.
    if one.credit is not None:
        raise ValueError(
            f"{one.name} and {other.name} cannot be summed: each gives credit in its own way"
        )
    if one.online and other.online and one.online != other.online:
        raise ValueError(
            f"{one.name} and {other.name} cannot be summed: they sample in different ways"
        )


def _over(method: Method) -> str | None:
    """Which examples its statistic is of; None where it has none."""
    if method.statistic is None:
        return None
    return "mismatched" if method.mismatched else "the step's"


def _weighted(weight: float, text: str) -> str:
    return text if weight == 1 else f"{weight:g}·{text}"


def _field(term: Term) -> str:
    return "".join(c if c.isalnum() else "_" for c in term.method.name)


def _of(params: Any, term: Term) -> Any:
    return getattr(params, _field(term))


def _online(terms: Sequence[Term]) -> Online | None:
    having = [term for term in terms if term.method.online]
    if not having:
        return None
    online = having[0].method.online
    assert online is not None
    mixture = online.mixture
    if mixture is None:
        return online
    return replace(online, mixture=lambda params: mixture(_of(params, having[0])))


def _reference_if(terms: Sequence[Term]) -> Any:
    if not any(term.method.reference_if for term in terms):
        return None

    def needed(params: Any, term: Term) -> bool:
        depends = term.method.reference_if
        return term.method.reference if depends is None else depends(_of(params, term))

    return lambda params: any(needed(params, term) for term in terms)


def _credit(terms: Sequence[Term]) -> Any:
    """The credit of the one term that gives it: a single one, with a weight."""
    own = terms[0].method.credit
    if own is None:
        return None
    return lambda scored, params, state: own(scored, _of(params, terms[0]), state)


def _credit_state(terms: Sequence[Term]) -> Any:
    own = terms[0].method.credit_state
    return None if own is None else lambda params: own(_of(params, terms[0]))


def _params_type(terms: Sequence[Term]) -> type:
    names = [(_field(term), type(term.params)) for term in terms]
    return make_dataclass("Sum", names, frozen=True)


def _taken(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def _loss(terms: Sequence[Term]) -> Any:
    def loss(batch: Any, params: Any, context: Context) -> LossOutput:
        total: Tensor | None = None
        metrics: dict[str, Tensor] = {}
        for number, term in enumerate(terms):
            own = Context(
                state=_taken(context.state, term.prefix),
                statistic=_taken(context.statistic, term.prefix),
                per_row=_taken(context.per_row, term.prefix),
            )
            output = term.method.loss(batch, _of(params, term), own)
            part = term.weight * output.loss_B
            total = part if total is None else total + part
            prefix = term.prefix if number else ""
            metrics |= {f"{prefix}{name}": value for name, value in output.metrics.items()}
            metrics[f"{term.prefix}loss"] = output.loss_B.detach()
        assert total is not None, "a sum has terms"
        return LossOutput(total, metrics)

    return loss


def _prefixed(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _statistic(terms: Sequence[Term]) -> Any:
    having = [term for term in terms if term.method.statistic]
    if not having:
        return None

    def statistic(batch: Any, params: Any, state: State) -> StepStatistic:
        shared: dict[str, Tensor] = {}
        per_row: dict[str, Tensor] = {}
        for term in having:
            assert term.method.statistic is not None
            own = term.method.statistic(batch, _of(params, term), _taken(state, term.prefix))
            shared |= _prefixed(term.prefix, own.shared)
            per_row |= _prefixed(term.prefix, own.per_row)
        return StepStatistic(shared, per_row)

    return statistic


def _initial_state(terms: Sequence[Term]) -> Any:
    having = [term for term in terms if term.method.initial_state]
    if not having:
        return None

    def initial_state(params: Any) -> State:
        state: State = {}
        for term in having:
            assert term.method.initial_state is not None
            state |= _prefixed(term.prefix, term.method.initial_state(_of(params, term)))
        return state

    return initial_state


def _advance(terms: Sequence[Term]) -> Any:
    having = [term for term in terms if term.method.advance]
    if not having:
        return None

    def advance(batch: Any, params: Any, state: State) -> State:
        following: State = {}
        for term in having:
            assert term.method.advance is not None
            own = term.method.advance(batch, _of(params, term), _taken(state, term.prefix))
            following |= _prefixed(term.prefix, own)
        return following

    return advance


def _resolve(terms: Sequence[Term]) -> Any:
    having = [term for term in terms if term.method.resolve]
    if not having:
        return None

    def resolve(params: Any, counts: Counts) -> Any:
        found = {}
        for term in having:
            assert term.method.resolve is not None
            found[_field(term)] = term.method.resolve(_of(params, term), counts)
        return replace(params, **found)

    return resolve
