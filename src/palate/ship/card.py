"""README.md of an export: a model card as Hugging Face reads it, from the ship record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from palate.evaluate.runfolder import interval, number, section
from palate.evaluate.wording import bounds, compact, count, decimal, percent, points
from palate.ship.loading import how_to_load
from palate.ship.source import Source

_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
_LIBRARY = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}


def model_card(source: Source, record: Mapping[str, Any], files: list[str]) -> str:
    """The card's text: front matter, what it is, data, figures, parity, how to load it.

    `files` are the names of the weights files.
    """
    parts = [
        _front(source, record),
        _what(source, record),
        _data(record),
        _figures(record),
        _parity(source, record),
        how_to_load(source, record, files),
        _versions(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(source: Source, record: Mapping[str, Any]) -> str:
    base, kind = record["base"], record["export"]["to"]
    papers = sorted({found for line in record["papers"] for found in _ARXIV.findall(line)})
    front: dict[str, Any] = {
        "library_name": _LIBRARY[kind],
        "pipeline_tag": "text-classification" if source.scores else "text-generation",
        "tags": ["palate", source.method.name, *(["lora"] if kind == "adapter" else [])]
        + [f"arxiv:{paper}" for paper in papers],
    }
    if base["on_hub"]:
        # A GGUF file is no quantisation of this base, but of a model tuned from it.
        relation = "adapter" if kind == "adapter" else "finetune"
        front |= {"base_model": base["name"], "base_model_relation": relation}
    if base["licence"]:
        front["license"] = base["licence"]
    if base["licence_name"]:
        front["license_name"] = base["licence_name"]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _what(source: Source, record: Mapping[str, Any]) -> str:
    base, config = record["base"], source.config
    adapter = config.adapter
    how = (
        f"LoRA, rank {adapter.rank}, α {adapter.alpha:g}, on {adapter.targets}"
        if source.adapter is not None
        else "every weight"
    )
    licence = (
        f"The base's card names the licence `{base['licence_name'] or base['licence']}`: its text "
        "says what it asks of models made from the base."
        if base["licence"]
        else "The base's licence is not known to the program that wrote this card: look it up "
        "before passing this model on."
    )
    in_4_bits = (
        "It was trained beside the base in 4 bits (NF4). Exported and compared with below is the "
        "adapter on the base's unquantised weights, which is another model than the one in 4 bits "
        "that was trained; how far from it was not measured."
        if config.model.quantize == "nf4"
        else ""
    )
    rows = [
        ("base model", f"`{base['name']}`"),
        ("base weights", f"SHA-256 `{base['sha256']}`" if base["sha256"] else "not recorded"),
        ("method", "; ".join(record["papers"])),
        ("parameters of the method", _settings(record["method"])),
        ("trained", how),
        ("recipe", f"SHA-256 `{record['config_sha256']}`"),
        ("export", _settings({k: v for k, v in record["export"].items() if k != "compared_with"})),
    ]
    notes = [text for text in (base["note"], in_4_bits, licence) if text]
    return f"# {record['run']}\n\n{_table(('', ''), rows)}\n\n" + "\n\n".join(notes)


def _data(record: Mapping[str, Any]) -> str:
    data = record["data"]
    rows = [
        ("funnel", data["funnel"] or "not recorded"),
        *((f"rows, {side}", count(n)) for side, n in data["rows"].items()),
        *((f"dropped: {reason}", count(n)) for reason, n in data["rejected"].items()),
        ("sources", ", ".join(f"`{path}`" for path in data["sources"]) or "not recorded"),
        ("hash of the records", f"`{data['content_hash']}`"),
    ]
    return f"## Data\n\n{_table(('', ''), rows)}"


def _figures(record: Mapping[str, Any]) -> str:
    figures = record["figures"]
    rows: list[tuple[str, str]] = []
    if (accuracy := number(figures, "heldout", "accuracy")) is not None:
        said = f"{percent(accuracy)} {bounds(interval(figures, 'heldout', 'accuracy_interval'))}"
        rows.append(("held-out pairs ranked right", said.strip()))
    rows += [
        (f"held-out {name}", decimal(value, 3))
        for name in ("margin", "reward", "passed")
        if (value := number(figures, "heldout", name)) is not None
    ]
    before, after = (section(figures, "comparison", key) for key in ("before", "after"))
    if number(after, "share") is not None:
        change = points(number(figures, "comparison", "difference"))
        low_high = bounds(interval(figures, "comparison", "difference_interval"))
        shares = f"{percent(number(before, 'share'))} → {percent(number(after, 'share'))}"
        rows.append(("answers that follow the rule", f"{shares} ({change} {low_high})"))
    for name, label in (("words", "mean length in words"), ("finished", "answers that end")):
        if number(after, name) is not None:
            says = percent if name == "finished" else decimal
            rows.append((label, f"{says(number(before, name))} → {says(number(after, name))}"))
    if (kl := number(figures, "comparison", "kl")) is not None:
        rows.append(("KL from the reference on own answers", f"{decimal(kl)} nats an answer"))
    rows.append(("gate", _gate(record["gate"])))
    title = "## Figures\n\nOn held-out prompts, base against trained model."
    return f"{title}\n\n{_table(('', ''), rows)}"


def _gate(verdict: Any) -> str:
    """The gate's verdict, whatever of it is there."""
    if verdict is None:
        return "not evaluated (`palate eval`)"
    passed = verdict.get("passed") if isinstance(verdict, Mapping) else verdict
    if isinstance(passed, bool):
        return "passed" if passed else "**not passed**"
    return str(passed)


def _parity(source: Source, record: Mapping[str, Any]) -> str:
    parity, seen = record["parity"], record["tokenisation"]
    unit = parity["unit"]
    in_4_bits = source.config.model.quantize == "nf4"
    of = "unquantised base with adapter" if in_4_bits else "trainer"
    error = "" if parity["error"] is None else f" ± {compact(parity['error'])}"
    rows = [
        ("runtime", parity["runtime"]),
        ("measured on", f"{count(parity['tokens'])} {unit}s, {parity['origin']}"),
        ("compared with", record["export"]["compared_with"]),
        (f"KL({of} ‖ exported)", f"{compact(parity['kl'])}{error} nats a {unit}"),
        (f"largest of a {unit}", f"{compact(parity['largest'])} nats"),
        ("top-1 agreement", percent(parity["top1"], 2)),
        ("limit of the mean", f"{compact(parity['limit'])} nats a {unit}"),
    ]
    if seen is not None:
        rows.append(("held-out prompts encoded as in training", f"all {count(seen['prompts'])}"))
        odd = f"{len(seen['differing'])} of {seen['odd_texts']} differ"
        rows.append(("odd texts (numbers, scripts, spaces, code)", odd))
    title = "## Is it the model that was trained?"
    return f"{title}\n\n{_table(('', ''), rows)}"


def _versions(record: Mapping[str, Any]) -> str:
    names = sorted({name for table in record["versions"].values() for name in table})
    rows = [
        (name, *(table.get(name, "") for table in record["versions"].values())) for name in names
    ]
    return f"## Versions\n\n{_table(('', *record['versions']), rows)}"


def _settings(table: Any) -> str:
    if not isinstance(table, Mapping):
        return "not recorded"
    said = [f"{key} {value}" for key, value in table.items() if value is not None]
    return ", ".join(said).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
