"""`palate judge`: a judge's verdicts into the store, and how far people agree with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.filling import Counts, Filling, agreement_with_people
from palate.config import ConfigError, apply_overrides
from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.judge.errors import JudgeStopped
    from palate.sections import JudgeConfig


def run_judge(
    target: str,
    judge: str | None,
    settings: Sequence[str] = (),
    *,
    ask: str = "auto",
    limit: int | None = None,
    format: str = "auto",
    as_json: bool = False,
) -> None:
    """Judge what the store holds, and say what came of it; `ValueError` with the cure.

    A judge that stops on the way leaves what it said; the next call goes on from there.
    """
    from palate.judge.build import identity
    from palate.judge.errors import JudgeStopped
    from palate.sections.judging import LOG_ODDS
    from palate.store.database import Store

    config = judge_config(judge, settings)
    if ask not in {"auto", "pairs", "scores"}:
        raise ConfigError(f"--ask is pairs, scores or auto, not '{ask}'")
    compares = config.kind in {"llm", "local", *LOG_ODDS}  # unless it is told to score
    pairs = ask == "pairs" or (ask == "auto" and compares)
    say = reporter_for()
    place = _store_of(target, format, say)
    stopped: JudgeStopped | None = None
    with Store.open(place, create=False) as store:
        filling = Filling(store, config, identity(config), pairs)
        try:
            filling.run(limit, say)
        except JudgeStopped as error:
            stopped = error
        facts = {
            "store": place,
            "judge": filling.by,
            "identity": filling.identity,
            "asked": "pairs" if pairs else "scores",
            **_counted(filling.counts),
            **({"spent": filling.spent} if filling.spent else {}),
            "agreement": agreement_with_people(store, filling.identity) if pairs else [],
        }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _show(facts, filling.counts, say)
    if stopped is not None:
        raise stopped


def judge_config(judge: str | None, settings: Sequence[str] = ()) -> JudgeConfig:
    """A YAML file, a kind, or a rule, with `key=value` settings over it; `ConfigError`."""
    from pydantic import ValidationError

    from palate.problems import explain
    from palate.sections import JudgeConfig

    raw = apply_overrides(_raw(judge), settings)
    try:
        return JudgeConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"the judge: {explain(error, JudgeConfig)}") from error


def _raw(judge: str | None) -> dict[str, Any]:
    import yaml

    if judge is None:
        return {}
    if Path(judge).suffix not in {".yaml", ".yml"}:
        return {"kind": "rule", "rule": judge} if ":" in judge else {"kind": judge}
    try:
        read = yaml.safe_load(Path(judge).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the judge {judge}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"the judge {judge} is not valid YAML: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"the judge {judge} must be a mapping of settings, such as `kind: llm`")
    return read


def _store_of(target: str, format: str, say: Reporter) -> str:
    """The store itself; of files a store beside them, into which they are imported."""
    from palate.store.database import Store, is_store
    from palate.store.importing import import_paths

    if is_store(target):
        return target
    path = Path(target).expanduser()
    if not path.exists():
        raise ConfigError(f"there is no {target}: name a store (palate.db) or a file of rows")
    place = str(path.with_name(f"{path.stem}.judged.db"))
    with Store.open(place) as store:
        import_paths(store, [target], format)
    say.note(f"{target} is in the store {place}, which gets the verdicts")
    return place


def _counted(counts: Counts) -> dict[str, Any]:
    return {
        "items": counts.items,
        "judged": counts.judged,
        "ties": counts.ties,
        "known": counts.known,
        "failures": dict(counts.failures.most_common()),
    }


def _show(facts: dict[str, Any], counts: Counts, say: Reporter) -> None:
    unit = facts["asked"]
    rows = [
        ["judged", f"{counts.judged:,}", f"{unit}, of which {counts.ties:,} ties"],
        ["before", f"{counts.known:,}", "had this judge's word already"],
    ]
    if unit == "scores":
        rows[0][2] = unit
    rows += [["failed", f"{n:,}", why] for why, n in counts.failures.most_common(8)]
    spent = facts.get("spent")
    if spent:
        tokens = f"{spent['tokens_in']:,} tokens in, {spent['tokens_out']:,} out"
        cost = f", cost {spent['cost']:.4g}" if spent["cost"] else ""
        retries = f"{spent['retries']:,} retries, {spent['cached']:,} from the cache"
        rows.append(["requests", f"{spent['requests']:,}", f"{retries}, {tokens}{cost}"])
    say.table(f"{facts['judge']} on {facts['store']}", ["", "count", ""], rows)
    if facts["agreement"]:
        say.table(
            "Agreement on pairs that both ranked, with 95 % intervals",
            ["", "pairs", "the same", "Cohen's κ"],
            [_agreed(one) for one in facts["agreement"]],
        )
    if counts.failures:
        say.note("what failed has no verdict: run the same again to ask for it")
    say.note(f"next:   palate data show {facts['store']}")


def _agreed(one: dict[str, Any]) -> list[str]:
    low, high = one["agreement_interval"]
    share = f"{one['agreement']:.1%} ({low:.1%} to {high:.1%})"
    kappa = "none"
    if one["kappa"] is not None:
        kappa = "{:.3f} ({:.3f} to {:.3f})".format(one["kappa"], *one["kappa_interval"])
    return [" and ".join(one["between"]), f"{one['pairs']:,}", share, kappa]
