"""The report's tables: from what the run wrote to rows of plain text."""

from __future__ import annotations

from collections.abc import Mapping

from palate.evaluate.runfolder import RunFiles, Table, interval, number, section
from palate.evaluate.wording import (
    NOT_MEASURED,
    bounds,
    clean,
    compact,
    count,
    decimal,
    duration,
    percent,
    points,
    signed_percent,
)

Row = tuple[str, ...]


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
    rate = number(training, "lr") or number(optim, "lr") or _peak(run.train)
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
                walk(value, "" if key in {"versions", "plan"} else name)
            elif key == "memory":
                size = number(table, key)
                rows.append((name, NOT_MEASURED if size is None else f"{size / 2**30:.1f} GiB"))
            elif value not in (None, "", []):
                whole = isinstance(value, int) and not isinstance(value, bool)
                rows.append((name, count(number(table, key)) if whole else _plain(value)))

    walk(run.environment, "")
    return rows


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
    plan, asked = section(run.environment, "plan"), section(run.config, "train")
    for table in (plan, run.environment, asked):
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
