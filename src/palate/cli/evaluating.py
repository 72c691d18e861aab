"""`palate eval`: is the model better than its base, and may it go out?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.runs import is_run, run_config, run_folder
from palate.cli.speaking import place_of
from palate.config import ConfigError, RunConfig, load_config
from palate.progress import Reporter, reporter_for
from palate.records import Message

if TYPE_CHECKING:
    from palate.evaluate.measure.candidate import Candidate
    from palate.evaluate.measure.gathering import Gathered, Texts
    from palate.evaluate.measure.report import Judges
    from palate.records import Example

NOT_PASSED = 3
SETTABLE = {"seed", "train.device", "data.max_length"}
"""Settings outside of `evaluate` and `gate` that decide how a run is measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model's report, and what it and the base answered."""

    report: dict[str, Any]
    mine: Gathered
    base: Gathered


def run_eval(words: Sequence[str], base: str | None, *, as_json: bool) -> None:
    """Measure each run by its own recipe and held-out data; exit code 3 where one does not pass.

    Other models are measured as the first run is.
    """
    from palate.cli.stop import Stopped

    say = reporter_for()
    models, overrides = _parted(words)
    runs = [word for word in models if is_run(word)]
    others = [word for word in models if word not in runs]
    base = base or _base_of(runs)
    found: list[Measured] = []
    for run in runs:
        beside = others if not found else []
        found += measure([run, *beside], overrides, base, say, write=True)[0]
    if as_json:
        typer.echo(json.dumps([one.report for one in found], ensure_ascii=False))
    else:
        for one in found:
            show(one, say)
    if not all(one.report["gate"]["passed"] for one in found):
        raise Stopped("", NOT_PASSED)


def run_compare(words: Sequence[str], base: str | None, out: str, *, as_json: bool) -> None:
    """Measure the models on the same prompts, and write one page of all; no run is changed."""
    from palate.evaluate.measure.compare import figures, write_comparison
    from palate.judge.rules import load_rule

    say = reporter_for()
    models, overrides = _parted(words)
    base = base or _base_of([word for word in models if is_run(word)])
    found, texts = measure(models, overrides, base, say, write=False)
    reports = [one.report for one in found]
    rule = reports[0]["evaluate"]["rule"]
    gathered = [*(one.mine for one in found), found[0].base]
    write_comparison(Path(out), reports, gathered, texts, load_rule(rule) if rule else None)
    if as_json:
        typer.echo(json.dumps(reports, ensure_ascii=False))
        return
    names = [one.candidate.name for one in (gathered[-1], *gathered[:-1])]
    say.table("", ["", *names], figures(reports))
    say.note(f"\npage    {out}")


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Models and settings; raises `ConfigError` without a run, or for what `eval` cannot set."""
    models = [word for word in words if "=" not in word or Path(word).exists()]
    if not any(is_run(word) for word in models):
        raise ConfigError(
            "name a run's folder: its recipe says what is measured, and its held-out data on what"
        )
    overrides = [word for word in words if word not in models]
    for word in overrides:
        key = word.partition("=")[0]
        if key.partition(".")[0] not in {"evaluate", "gate"} and key not in SETTABLE:
            raise ConfigError(
                f"{key} is a setting of training: of a run that is measured, evaluate.…, gate.…, "
                f"{' and '.join(sorted(SETTABLE))} can be set"
            )
    return models, overrides


def measure(
    models: Sequence[str], overrides: Sequence[str], base: str, say: Reporter, *, write: bool
) -> tuple[list[Measured], Texts]:
    """The measurements of the models on held-out data of the runs among them, the first a run.

    The first run's recipe says how; each run is held to its own gate, other models to the first's.
    """
    say.note("loading …")
    runs = [run_folder(word) for word in models if is_run(word)]
    config = load_config(runs[0] / "config.yaml", overrides)
    candidates = [_candidate(word) for word in models]
    named = _named([*candidates, _candidate(base, model_of_run=False, like=config)])
    gates = [
        load_config(one.run / "config.yaml", overrides).gate if one.run else config.gate
        for one in candidates
    ]
    from palate.cli.stop import Stopped
    from palate.evaluate.measure.assess import assess

    texts = texts_of([Path(word) for word in models if is_run(word)], config, say)
    with judges_of(config) as judges:
        try:
            found = assess(named[:-1], named[-1], texts, config, gates, judges, say, write=write)
        except KeyboardInterrupt:
            raise Stopped("stopped; what was done is kept: the same command goes on") from None
    return [Measured(*one) for one in found], texts


def _base_of(runs: Sequence[str]) -> str:
    """The model that all runs were trained from; of a run with stages, where the first began."""
    bases = [_first_model(run_config(run)) for run in runs]
    if len(set(bases)) > 1:
        raise ConfigError(
            f"the runs have different bases ({', '.join(sorted(set(bases)))}): name the model "
            "that all are held against with --base"
        )
    return bases[0]


def _first_model(config: RunConfig) -> str:
    """Where a run began: a first stage may name a model of its own."""
    if not config.stages:
        return config.model.path
    from palate.stages import stage_configs

    return stage_configs(config)[0].model.path


def _candidate(word: str, *, model_of_run: bool = True, like: RunConfig | None = None) -> Candidate:
    from palate.evaluate.measure.candidate import Candidate

    if like is not None and not is_run(word):
        return Candidate(_name(word), word, like.data.template, like.model.trust_remote_code)
    place, template, trust = place_of(word)
    run = run_folder(word) if is_run(word) and model_of_run else None
    return Candidate(_name(word), place, template, trust, run)


def _name(word: str) -> str:
    """The last part of a path, or of a hub id; of a run's `model` folder, the run's."""
    place = Path(word)
    if place.name == "model" and is_run(place.parent):
        place = place.parent
    return place.resolve().name if place.exists() else place.name


def _named(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Names that differ: a second model of a name gets a number."""
    seen: dict[str, int] = {}
    out = []
    for one in candidates:
        seen[one.name] = seen.get(one.name, 0) + 1
        count = seen[one.name]
        out.append(one if count == 1 else replace(one, name=f"{one.name} ({count})"))
    return out


def texts_of(runs: Sequence[Path], config: RunConfig, say: Reporter) -> Texts:
    """Held-out examples that no run was trained on, and the fixed sets that the recipe names."""
    from palate.evaluate.measure import sets
    from palate.evaluate.measure.gathering import Texts
    from palate.evaluate.measure.instructions import as_examples, instruction_prompts
    from palate.evaluate.measure.tasks import check_tasks

    heldout = _heldout(runs, say)
    evaluate = config.evaluate
    check_tasks(evaluate.tasks)
    asked_for = instruction_prompts(evaluate.instructions, evaluate.limit)
    safety = sets.evenly(sets.safety_examples(evaluate.safety, our_safety()), evaluate.limit)
    asked = [
        sets.heldout_set([e for e in heldout if e.prompt], evaluate, config.seed),
        sets.fixed_set("instructions", as_examples(asked_for), evaluate),
        sets.fixed_set("maths", sets.maths_examples(evaluate.maths, evaluate.limit), evaluate),
        sets.fixed_set("safety", safety, evaluate),
    ]
    return Texts(
        tuple(one for one in asked if one is not None),
        tuple(e for e in heldout if e.shape == "pair"),
        tuple(sets.demonstrations(evaluate.demonstrations, evaluate.limit)),
        tuple(asked_for),
        tuple(evaluate.tasks),
        evaluate.limit,
    )


def _heldout(runs: Sequence[Path], say: Reporter) -> list[Example]:
    """Held out in the first run, and in no stage of any run trained on."""
    from palate.store.snapshot import read_snapshot

    first = read_snapshot(run_folder(runs[0]) / "snapshot")
    seen = {
        example.prompt_key
        for run in runs
        for folder in _stages_of(run)
        for example in read_snapshot(folder / "snapshot").train
    }
    kept = [e for e in first.heldout if e.prompt_key not in seen]
    if len(kept) < len(first.heldout):
        say.note(
            f"{len(first.heldout) - len(kept)} held-out examples of {runs[0]} are left out: "
            "a stage or another run was trained on their prompts"
        )
    return kept


def _stages_of(run: Path) -> list[Path]:
    """The run's folder, or those of its stages, where they hold data."""
    from palate.stages import begun_stages

    folders = begun_stages(run) or [run]
    return [folder for folder in folders if (folder / "snapshot" / "manifest.json").is_file()]


def our_safety() -> list[Example]:
    """The red team's attacks as they stand, and its harmless prompts that sound dangerous."""
    from palate.evaluate.measure.safety import UNSAFE
    from palate.records import Example
    from palate.redteam.seeds import load_attacks, load_benign

    unsafe = [
        (attack, {"safety": UNSAFE, "type": category.id})
        for category in load_attacks().categories
        if not category.canary
        for attack in category.attacks
    ]
    harmless = [
        (one.prompt, {"safety": "harmless", "type": one.type}) for one in load_benign().prompts
    ]
    return [Example((Message("user", text),), (), tags=tags) for text, tags in (*unsafe, *harmless)]


@contextmanager
def judges_of(config: RunConfig) -> Iterator[Judges]:
    """The recipe's rule and judge of pairs, closed after use."""
    from palate.evaluate.measure.report import Judges
    from palate.judge.build import build_pair_judge, identity
    from palate.judge.rules import load_rule
    from palate.redteam.refusal import declines, refuses
    from palate.sections import JudgeConfig

    evaluate = config.evaluate
    judge = evaluate.judge
    if judge is None and evaluate.rule is not None:
        judge = JudgeConfig(kind="rule", rule=evaluate.rule)
    judges = Judges(
        rule=load_rule(evaluate.rule) if evaluate.rule else None,
        declines=declines,
        refuses=refuses,
    )
    if judge is None:
        yield judges
        return
    with build_pair_judge(judge) as pair:
        yield replace(judges, pair=pair, identity=identity(judge))


def show(one: Measured, say: Reporter) -> None:
    """The figures, the gate, and what to do next."""
    from palate.evaluate.measured import check_rows, figure_rows

    report = one.report
    name, base = report["model"]["name"], report["base"]["name"]
    say.table(f"{name} beside {base}", ["", base, name, "change"], figure_rows(report))
    say.table("Gate", ["", "measured", "wanted", ""], check_rows(report["gate"]["checks"]))
    for part, why in report["not_measured"].items():
        say.note(f"not measured: {part}: {why}")
    passed = report["gate"]["passed"]
    say.note("\nthe gate is passed" if passed else "\nTHE GATE IS NOT PASSED: this model stays in")
    run = one.mine.candidate.run
    if run is not None:
        say.note(f"\nreport  {run / 'report.html'}\nfigures {run / 'evaluation' / 'report.json'}\n")
        folder = shlex.quote(str(run))
        say.note(
            f"next:   palate export {folder} --to gguf"
            if passed
            else f"next:   palate compare {folder} OTHER-RUN"
        )
