"""The form as the facts that its page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from palate.ui.runs.fields import Field, Part, every_field, every_part, parameters
from palate.ui.runs.form import METHOD, METHOD_YAML, Values
from palate.ui.runs.methods import methods

BASICS = (
    "name",
    "model.path",
    "data.path",
    "optim.lr",
    "train.epochs",
    "train.max_steps",
    "adapter.kind",
    "adapter.rank",
    "evaluate.rule",
)
"""What most people change, and what a run cannot be without; shown first and nowhere else."""
TITLES = {
    "model": "Model",
    "data": "Data",
    "data.filters": "Filters",
    "adapter": "Adapter",
    "optim": "Optimizer",
    "train": "Training",
    "evaluate": "Evaluation",
    "evaluate.judge": "Judge",
    "gate": "Gate",
    "rollout": "Rollout",
    "rollout.judge": "Judge",
    "rollout.server": "Sampling server",
}


def form_facts(values: Values) -> dict[str, Any]:
    """Everything the page shows: the fields in their places, each with its value."""
    fields = every_field()
    rest = [one for one in every_part()[""].fields if one.key not in BASICS]
    return {
        "basics": [_field(fields[key], values) for key in BASICS],
        "method": {
            "name": values.get(METHOD, "dpo"),
            "yaml": values.get(METHOD_YAML, ""),
            "groups": _groups(),
            "methods": [_method(name, values) for name in methods()],
        },
        "more": [_field(one, values) for one in rest],
        "sections": [_section(part, values) for part in every_part()[""].parts],
    }


def _groups() -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for facts in methods().values():
        found.setdefault(facts.group, []).append(facts.name)
    return [{"title": title, "names": names} for title, names in found.items()]


def _method(name: str, values: Values) -> dict[str, Any]:
    facts = methods()[name]
    return {
        "name": name,
        "title": facts.title,
        "data": facts.data,
        "when": facts.when,
        "samples": facts.refused_without_rollout is not None,
        "fields": [_field(one, values) for one in parameters(name)],
    }


def _section(part: Part, values: Values) -> dict[str, Any]:
    fields = [_field(one, values) for one in part.fields if one.key not in BASICS]
    parts = [_section(inner, values) for inner in part.parts]
    on = values.get(part.key) is True if part.optional else True
    changed = sum(one["changed"] for one in fields) + sum(inner["changed"] for inner in parts)
    return {
        "key": part.key,
        "title": TITLES.get(part.key, part.key.rpartition(".")[2].capitalize()),
        "about": part.about,
        "optional": part.optional,
        "on": on,
        "changed": changed + (part.optional and on) if on else 0,
        "fields": fields,
        "parts": parts,
    }


def _field(field: Field, values: Values) -> dict[str, Any]:
    value = values.get(field.key, field.default)
    whole = isinstance(value, Mapping)
    return {
        **asdict(field),
        "label": field.label,
        "value": value["yaml"] if whole else value,
        "whole": whole,
        "changed": value != field.default and not field.required,
    }
