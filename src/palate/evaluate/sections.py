"""The report's tables and samples: from what the run wrote to rows of plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from palate.evaluate.answers import Answer
from palate.evaluate.runfolder import RunFiles, Table, interval, number, section
from palate.evaluate.wording import (
    NOT_MEASURED,
    bounds,
    compact,
    count,
    decimal,
    duration,
    percent,
    plural,
    points,
    signed_percent,
)
from palate.records import canonical_json

SHOWN = 24  # prompts in the report; the rest stays in samples.jsonl

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer as the page shows it."""

    text: str
    verdict: str
    passed: bool | None
    size: str


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """A held-out prompt with its answers: `asked` is the last user turn."""

    asked: str
    system: str
    earlier: tuple[tuple[str, str], ...]
    before: tuple[ShownAnswer, ...]
    after: tuple[ShownAnswer, ...]


def funnel(run: RunFiles) -> list[Row]:
    """(stage, count and unit, what was dropped and why) for each stage of the data's way."""
    stages = section(run.manifest, "funnel").get("stages")
    rows: list[Row] = []
    for stage in stages if isinstance(stages, list) else []:
        if not isinstance(stage, Mapping):
            continue
        dropped = section(stage, "dropped")
        said = [f"{count(number(dropped, why))} {why}" for why in dropped]
        note = stage.get("note")
        said += [str(note)] if note else []
        size = f"{count(number(stage, 'count'))} {stage.get('unit', '')}".strip()
        rows.append((str(stage.get("name", "")), size, ", ".join(said)))
    return rows


def measures(run: RunFiles) -> list[Row]:
    """(measure, before, after, change) for the sampled answers."""
    comparison = section(run.results, "comparison")
    if not comparison:
        return []
    before, after = section(comparison, "before"), section(comparison, "after")
    rows: list[Row] = []
    if number(after, "share") is not None:
        change = points(number(comparison, "difference"))
        change += f" {bounds(interval(comparison, 'difference_interval'))}"
        rows.append(("Follows the rule", _share(before), _share(after), change))
    parts = dict.fromkeys([*section(before, "failed"), *section(after, "failed")])
    for part in parts:
        old = number(before, "failed", part) or 0.0
        new = number(after, "failed", part) or 0.0
        rows.append((f"Fails on: {part}", percent(old), percent(new), points(new - old)))
    for title, key, digits in (
        ("Tokens per answer", "tokens", 1),
        ("Words per answer", "words", 1),
    ):
        change = signed_percent(number(comparison, f"{key}_change"))
        rows.append((title, _decimal(before, key, digits), _decimal(after, key, digits), change))
    old_end, new_end = number(before, "finished"), number(after, "finished")
    ended = points(new_end - old_end) if old_end is not None and new_end is not None else ""
    rows.append(("Ended by the model itself", percent(old_end), percent(new_end), ended))
    rows.append(
        (
            "Variety (distinct-2)",
            _decimal(before, "distinct_2", 2),
            _decimal(after, "distinct_2", 2),
            _relative(number(before, "distinct_2"), number(after, "distinct_2")),
        )
    )
    kl, error = number(comparison, "kl"), number(comparison, "kl_error")
    drift = NOT_MEASURED if kl is None else f"{decimal(kl)} nats"
    drift += f" \u00b1 {decimal(error)}" if kl is not None and error is not None else ""
    rows.append(("KL from the first model, per answer", "0", drift, ""))
    return rows


def settings(run: RunFiles) -> list[Row]:
    """(setting, value) of what decides the run and what it cost."""
    config, training = run.config, section(run.results, "training")
    method = section(run.results, "method") or section(config, "method")
    adapter, optim = section(config, "adapter"), section(config, "optim")
    train = section(config, "train")
    kind = str(adapter.get("kind", NOT_MEASURED))
    if kind == "lora":
        kind += f", rank {_plain(adapter.get('rank'))}, alpha {_plain(adapter.get('alpha'))}"
        kind += f", on {_plain(adapter.get('targets'))}"
    rate = number(optim, "lr") or _peak(run.train)
    params = ", ".join(f"{_name(k)} {_plain(v)}" for k, v in method.items() if k != "name")
    schedule = f"{_plain(optim.get('schedule'))}, warm-up {percent(number(optim, 'warmup'))}"
    unique, path = number(training, "unique_tokens"), number(training, "path_tokens")
    sharing = number(training, "sharing") or (path / unique if path and unique else None)
    return [
        ("Model", _plain(section(config, "model").get("path"))),
        ("Method", _plain(method.get("name"))),
        ("Method's parameters", params or "none"),
        ("Adapter", kind),
        ("Learning rate", f"{compact(rate)} ({schedule})"),
        ("Examples per step", _plain(train.get("batch_size"))),
        ("Steps", count(number(training, "steps"))),
        ("Seed", _plain(config.get("seed"))),
        ("Precision", _resolved(run, "precision")),
        ("Layout", _resolved(run, "layout")),
        ("Device", _resolved(run, "device")),
        ("Training time", duration(number(training, "seconds"))),
        ("Examples per second", compact(number(training, "pairs_per_second"))),
        ("Tokens computed", count(unique)),
        ("Tokens without sharing", count(path)),
        ("Sharing", NOT_MEASURED if sharing is None else f"{decimal(sharing)} times fewer tokens"),
        ("Data", _plain(section(config, "data").get("path"))),
        ("Snapshot's hash", _plain(run.manifest.get("content_hash"))),
    ]


def versions(run: RunFiles) -> list[Row]:
    """(name, value) of everything in environment.json, nested names joined by spaces."""
    rows: list[Row] = []

    def walk(table: Table, above: str) -> None:
        for key, value in table.items():
            name = f"{above} {key}".strip().replace("_", " ")
            if isinstance(value, Mapping):
                walk(value, "" if key in {"versions", "packages"} else name)
            elif value not in (None, "", []):
                rows.append((name, _plain(value)))

    walk(run.environment, "")
    return rows


def prompts(run: RunFiles) -> tuple[list[ShownPrompt], int]:
    """The first prompts of samples.jsonl, in its order, and how many there are in all."""
    groups: dict[str, list[Answer]] = {}
    for answer in run.answers:
        groups.setdefault(answer.group, []).append(answer)
    return [_shown(answers) for answers in list(groups.values())[:SHOWN]], len(groups)


def one_system(shown: list[ShownPrompt]) -> str | None:
    """The system prompt, if all prompts have the same one."""
    found = {prompt.system for prompt in shown}
    return found.pop() if len(found) == 1 else None


def clean(text: str) -> str:
    """Text that HTML can carry: control characters as their pictures, no lone surrogates.

    What a terminal or a parser would act on (NUL, escape) becomes visible instead.
    """
    text = text.encode("utf-8", "replace").decode()
    text = re.sub("[\x00-\x08\x0b-\x1f]", lambda found: chr(0x2400 + ord(found[0])), text)
    return re.sub("[\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def _shown(answers: list[Answer]) -> ShownPrompt:
    messages = list(answers[0].prompt)
    system = [m.content for m in messages if m.role in ("system", "developer")]
    turns = [m for m in messages if m.role not in ("system", "developer")]
    users = [i for i, m in enumerate(turns) if m.role == "user"]
    last = users[-1] if users else len(turns) - 1
    return ShownPrompt(
        asked=clean(turns[last].content) if turns else "",
        system=clean("\n\n".join(system)),
        earlier=tuple(
            (m.role, clean(m.content or canonical_json(list(m.tool_calls))))
            for i, m in enumerate(turns)
            if i != last
        ),
        before=tuple(_answer(a) for a in answers if a.stage == "before"),
        after=tuple(_answer(a) for a in answers if a.stage == "after"),
    )


def _answer(answer: Answer) -> ShownAnswer:
    result = answer.result
    if result is None:
        verdict = "not scored"
    elif result.passed:
        verdict = "follows the rule"
    else:
        verdict = f"fails: {', '.join(result.failed)}" if result.failed else "fails"
    size = plural(len(answer.text.split()), "word")
    size += "" if answer.finished else ", cut at the limit"
    return ShownAnswer(clean(answer.text), clean(verdict), result.passed if result else None, size)


def _share(stage: Table) -> str:
    return f"{percent(number(stage, 'share'))} {bounds(interval(stage, 'interval'))}".strip()


def _decimal(stage: Table, key: str, digits: int) -> str:
    return decimal(number(stage, key), digits)


def _relative(old: float | None, new: float | None) -> str:
    return signed_percent(new / old - 1) if old and new is not None else ""


def _peak(train: tuple[Table, ...]) -> float | None:
    return max((rate for line in train if (rate := number(line, "lr")) is not None), default=None)


def _resolved(run: RunFiles, key: str) -> str:
    """What was used if the run recorded it, else what was asked for."""
    for table in (section(run.results, "training"), run.environment, section(run.config, "train")):
        if table.get(key) is not None:
            return _plain(table[key])
    return NOT_MEASURED


def _name(key: str) -> str:
    return {"beta": "\u03b2", "lambda": "\u03bb"}.get(key, key.replace("_", " "))


def _plain(value: object) -> str:
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return compact(value)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return clean(str(value))
