"""A whole run: data, model, reference, training, answers before and after, report.

`train(RunConfig(...)) -> Run` is what `palate train` and `palate.train` do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palate.config import RunConfig
from palate.curate.prepare import prepare
from palate.durable import write_json
from palate.evaluate.answers import Comparison, summarise
from palate.evaluate.intervals import wilson
from palate.evaluate.report import write_report
from palate.evaluate.sampled import (
    append_answers,
    choose_prompts,
    read_answers,
    sample_answers,
    with_kl,
)
from palate.judge.rules import load_rule
from palate.losses.registry import Method, find
from palate.model.load import load
from palate.progress import Quiet, Reporter
from palate.records import Example
from palate.ship.merge import ship_adapter, ship_full
from palate.store.snapshot import Snapshot, read_snapshot, write_snapshot
from palate.tokens.render import Rendered, Renderer
from palate.train.folder import open_folder
from palate.train.loop import Progress, Task, Watcher, run_loop
from palate.train.metrics import read_metrics
from palate.train.setup import Learner, make_split, set_up


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder and what results.json says."""

    folder: Path
    config: RunConfig
    results: dict[str, Any]

    @property
    def model(self) -> Path:
        """The folder of the model that ships; plain transformers loads it."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "report.html"


def train(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Do everything the recipe says and return the finished run.

    Raises `ConfigError`, `IngestError` or `ValueError` for what the user can mend, and
    `palate.train.loop.Interrupted`, after saving a checkpoint, when `should_stop` says so.
    """
    say = reporter or Quiet()
    method, params = find(config.method)
    rule = load_rule(config.evaluate.rule) if config.evaluate.rule else None
    with open_folder(config) as (folder, continues):
        done = folder / "results.json"
        if continues and done.is_file():
            say.note(f"{folder} is complete already")
            return Run(folder, config, json.loads(done.read_text(encoding="utf-8")))
        learner = set_up(config, folder, continues, say)
        data = _snapshot(config, folder, continues, learner.renderer, method.shape, say)
        train_split, heldout_split = (
            make_split(config, learner, method, _render(learner, part, method), title, say)
            for part, title in ((data.train, "reference"), (data.heldout, "reference, held-out"))
        )
        prompts, n = choose_prompts(data.heldout, config.evaluate.samples)

        def answers_of(stage: Any) -> Any:
            with say.bar(f"sampling {stage}", len(prompts) * n) as bar:
                return sample_answers(
                    learner.policy,
                    learner.renderer,
                    prompts,
                    config.evaluate,
                    n=n,
                    stage=stage,
                    seed=config.seed,
                    rule=rule,
                    advance=bar.advance,
                )

        before = read_answers(folder / "samples.jsonl", "before")
        if prompts and not before:
            before, _ = answers_of("before")
            append_answers(folder / "samples.jsonl", before)
        task = Task(
            policy=learner.policy,
            method=method,
            params=params,
            train=train_split,
            heldout=heldout_split,
            optim=config.optim,
            config=config.train.model_copy(
                update={"tokens_per_microbatch": learner.plan.tokens_per_microbatch}
            ),
            lr=learner.lr,
            seed=config.seed,
            folder=folder,
        )
        progress = _train(task, continues, say, should_stop)
        comparison = None
        if prompts:
            after, rendered = answers_of("after")
            after = with_kl(
                after,
                rendered,
                learner.policy,
                learner.reference(),
                learner.switch,
                learner.plan.tokens_per_microbatch,
            )
            append_answers(folder / "samples.jsonl", after)
            comparison = summarise(before, after, config.seed)
        _ship(config, folder, learner)
        results = _results(config, task, progress, comparison)
        write_json(done, results)
        write_report(folder)
        return Run(folder, config, results)


def _snapshot(
    config: RunConfig, folder: Path, continues: bool, renderer: Renderer, shape: str, say: Reporter
) -> Snapshot:
    """The data: prepared and frozen, or the frozen data of the run that is continued."""
    place = folder / "snapshot"
    if continues and (place / "manifest.json").is_file():
        return read_snapshot(place)
    prepared = prepare(
        config.data,
        config.seed,
        check=lambda example: renderer.check(oriented(example, shape)),
        shape=shape,  # type: ignore[arg-type]
    )
    write_snapshot(place, prepared.train, prepared.heldout, prepared.rejects, prepared.funnel)
    say.table(
        "Data",
        ["stage", "count", "", "dropped, and why"],
        [[stage, str(count), unit, why] for stage, count, unit, why in prepared.funnel.rows()],
    )
    if prepared.rejects:
        say.note(f"every dropped row is listed in {place / 'rejects.jsonl'}")
    return read_snapshot(place)


def _render(learner: Learner, examples: Sequence[Example], method: Method) -> list[Rendered]:
    return [learner.renderer.render(oriented(example, method.shape)) for example in examples]


def oriented(example: Example, shape: str) -> Example:
    """The completions in the order that the shape promises: chosen, rejected; or the one."""
    if shape == "pair":
        return replace(example, completions=(example.chosen, example.rejected), verdict=None)
    return replace(example, completions=example.completions[:1], verdict=None)


def _train(
    task: Task, resume: bool, say: Reporter, should_stop: Callable[[], bool]
) -> Progress:
    began = time.perf_counter()
    heldout: dict[str, float] = {}
    with say.bar("training", _total_steps(task)) as bar:
        at = 0

        def on_step(step: int, total: int, means: dict[str, float]) -> None:
            nonlocal at
            bar.advance(step - at, _words(means, heldout))
            at = step

        def on_heldout(step: int, means: dict[str, float]) -> None:
            heldout.update(means)
            say.note(f"step {step:>4}  held-out  {_words(means, {})}")

        watch = Watcher(on_step, on_heldout, say.note, should_stop)
        progress = run_loop(task, resume=resume, watch=watch)
    progress.seconds = time.perf_counter() - began
    return progress


def _total_steps(task: Task) -> int:
    from palate.tokens.sampler import Sampler

    sampler = Sampler(len(task.train.examples), task.config.batch_size, task.seed)
    return sampler.total_steps(task.config.epochs, task.config.max_steps)


def _words(means: dict[str, float], heldout: dict[str, float]) -> str:
    parts = [f"loss {means['loss']:.3f}"]
    if "margin" in means:
        parts += [f"margin {means['margin']:+.2f}", f"accuracy {means['accuracy']:.0%}"]
    if "accuracy" in heldout:
        parts.append(f"held-out {heldout['accuracy']:.0%}")
    return "  ".join(parts)


def _ship(config: RunConfig, folder: Path, learner: Learner) -> None:
    if learner.adapted is None:
        ship_full(learner.policy.model, learner.tokenizer, folder / "model")
        return
    fresh = load(config.model.path, trust_remote_code=config.model.trust_remote_code)
    ship_adapter(
        learner.adapted, fresh.model, learner.tokenizer, folder / "model", folder / "adapter"
    )


def _results(
    config: RunConfig, task: Task, progress: Progress, comparison: Comparison | None
) -> dict[str, Any]:
    lines = read_metrics(task.folder / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "train"]
    unique, path = (sum(line[k] for line in steps) for k in ("unique_tokens", "path_tokens"))
    seconds = sum(line["seconds"] for line in steps)
    examples = len(task.train.examples)
    held = progress.heldout
    n = len(task.heldout.examples)
    heldout: dict[str, Any] | None = None
    if held:
        heldout = {"n": n, **{k: held[k] for k in ("loss", "margin", "accuracy") if k in held}}
        if "accuracy" in held:
            heldout["accuracy_interval"] = list(wilson(held["accuracy"] * n, n))
    return {
        "comparison": comparison.to_dict() if comparison else None,
        "heldout": heldout,
        "step0": {
            "loss": steps[0]["loss"],
            "expected": task.method.initial_loss,
            "mean_abs_h": steps[0].get("abs_h"),
            "max_abs_h": steps[0].get("max_abs_h"),
        },
        "training": {
            "seconds": seconds,
            "steps": progress.steps,
            "examples": examples,
            "pairs_per_second": progress.examples / progress.seconds if progress.seconds else None,
            "unique_tokens": unique,
            "path_tokens": path,
            "sharing": path / unique if unique else None,
            "lr": task.lr,
        },
        "method": {"name": task.method.name, **asdict(task.params)},
    }
