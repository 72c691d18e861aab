"""A whole run: data, model, reference, training, answers before and after, report.

`train(RunConfig(...)) -> Run` is what `palate train` and `palate.train` do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from palate.config import ConfigError, RunConfig
from palate.curate.prepare import prepare
from palate.durable import write_json, write_text
from palate.evaluate.answers import Answer, Comparison, Stage, summarise
from palate.evaluate.report import write_report
from palate.evaluate.results import results_of
from palate.evaluate.sampled import (
    choose_prompts,
    read_answers,
    sample_answers,
    with_kl,
    write_answers,
)
from palate.generate.sampling import Sampling
from palate.ingest import IngestError
from palate.judge.rules import Rule, load_rule
from palate.losses.method import Method
from palate.losses.registry import method_of
from palate.model.load import load, weights_hash
from palate.progress import Bar, Quiet, Reporter
from palate.records import Example
from palate.rollout.assemble import assemble_online, check_alone
from palate.rollout.judging import Bench, bench_of
from palate.ship.merge import Write, ship_adapter, ship_classifier, ship_full
from palate.store.freezing import freeze
from palate.store.judged import reader_of
from palate.store.snapshot import read_snapshot, remove_partial
from palate.tokens.render import Rendered, Renderer
from palate.train.assemble import assemble
from palate.train.folder import open_folder
from palate.train.loop import run_loop
from palate.train.parallel import Ranks, join
from palate.train.retry import release
from palate.train.setup import Learner, set_up, trained_learner, whole_learner
from palate.train.task import Interrupted, Progress, Task, Watcher
from palate.train.trackers import Trackers


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
    known: Mapping[str, bool] | None = None,
) -> Run:
    """Do everything the recipe says and return the finished run; of several stages, the last.

    `known` says of prompts (by `Example.prompt_key`) whether they are held out, where that was
    decided elsewhere. Raises `ConfigError`, `IngestError` or `ValueError` for what the user can
    mend, and `palate.train.task.Interrupted`, after saving a checkpoint, when `should_stop`
    says so.
    """
    if config.stages:
        from palate.stages import train_stages

        return train_stages(config, reporter=reporter, should_stop=should_stop)
    say = reporter or Quiet()
    with join(config.train.parallel, config.train.rank_timeout) as ranks, ExitStack() as stack:
        say = say if ranks.is_main else Quiet()
        method, params = method_of(config)
        rule = load_rule(config.evaluate.rule) if config.evaluate.rule else None
        bench = _bench(config, method, stack, ranks)
        continues, done = ranks.on_main(lambda: _open(config, say, stack))
        folder = _shared(config.folder)
        if done is not None:
            return Run(folder, config, done)
        resolved = config.model_dump(mode="json")
        trackers = Trackers(config.train.trackers, resolved, folder, say.note)
        stack.callback(trackers.finish)
        learner = set_up(config, folder, continues, say, ranks)
        renderer, split = learner.renderer, known or {}
        ranks.on_main(lambda: _freeze(config, folder, continues, renderer, method.data, say, split))
        data = read_snapshot(folder / "snapshot")
        stoppable = _Stoppable(say, should_stop, folder)
        parts, chosen = (data.train, data.heldout), (method, params)
        if bench is None:
            task = assemble(config, folder, learner, chosen, parts, stoppable, ranks)
        else:
            task = _online(config, folder, learner, chosen, parts, bench, stoppable)
        if task.source is not None:
            stack.callback(task.source.close)
        speaks = method.head != "scalar" and method.shape != "text"
        prompts = data.heldout if speaks else []
        answers = Answers(config, folder, prompts, rule, stoppable, task.budget.first)
        ranks.on_main(lambda: answers.before(partial(_untrained, config, learner, ranks)))
        progress = _train(task, continues, say, should_stop, trackers.on_line)

        def finish() -> dict[str, Any]:
            speaking = bool(answers.prompts)
            trained = _trained(config, folder, learner, ranks, progress.best, speaking=speaking)
            comparison = answers.compare(trained)
            _ship(config, folder, trained)
            results = results_of(task, progress, comparison)
            write_json(folder / "results.json", results)
            write_report(folder)
            return results

        return Run(folder, config, ranks.on_main(finish))


def _online(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    chosen: tuple[Method, Any],
    parts: tuple[Sequence[Example], Sequence[Example]],
    bench: Bench,
    say: _Stoppable,
) -> Task:
    """The task of a run with a rollout, whose sampling shows no bar: the training's stands."""
    quiet = _Stoppable(Quiet(), say.should_stop, folder)
    return assemble_online(config, folder, learner, chosen, parts, bench, say, quiet.bar)


def _bench(config: RunConfig, method: Method, stack: ExitStack, ranks: Ranks) -> Bench | None:
    """The judges of a run that samples what it learns from, closed with the stack."""
    if config.rollout is None:
        return None
    check_alone(ranks)
    bench = bench_of(config.rollout, method)
    stack.callback(bench.close)
    return bench


def _open(config: RunConfig, say: Reporter, stack: ExitStack) -> tuple[bool, dict[str, Any] | None]:
    """Hold the run's folder until the stack ends: whether the run continues, and what it gave.

    The results of a run that is complete already; None of any other.
    """
    folder, continues = stack.enter_context(open_folder(config, say.note))
    done = folder / "results.json"
    if not continues or not done.is_file():
        return continues, None
    say.note(f"{folder} is complete already")
    if not (folder / "report.html").is_file():  # writing it may be what failed
        write_report(folder)
    return continues, json.loads(done.read_text(encoding="utf-8"))


def _shared(folder: Path) -> Path:
    """The folder, which every rank must see."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"{folder} is not there for every rank: let out=FOLDER be on storage that they share"
        )
    return folder


def _untrained(config: RunConfig, learner: Learner, ranks: Ranks) -> Learner:
    """The learner whose model samples before training: whole, in this process."""
    device = str(learner.policy.device)
    return whole_learner(config, learner, device) if ranks.divided else learner


def _trained(
    config: RunConfig,
    folder: Path,
    learner: Learner,
    ranks: Ranks,
    step: int | None,
    *,
    speaking: bool,
) -> Learner:
    """The learner whose model samples and ships: whole, in this process.

    In the host's memory if it does not sample, where more fits than on a device.
    """
    if not ranks.divided:
        return learner
    device = str(learner.policy.device) if speaking else "cpu"
    return trained_learner(config, folder, learner, device, step)


class _Stoppable:
    """A reporter whose bars end the work, between two pieces of it, when the run should stop.

    For what can be done again or goes on where it was: the reference pass and sampling. The
    training loop stops by itself, after saving.
    """

    def __init__(self, say: Reporter, should_stop: Callable[[], bool], folder: Path) -> None:
        self.say, self.should_stop, self.folder = say, should_stop, folder
        self.note, self.table = say.note, say.table

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Bar]:
        """The reporter's bar, which raises `Interrupted` when the run is asked to stop."""
        with self.say.bar(title, total) as bar:
            yield _StoppableBar(bar, self)


class _StoppableBar:
    def __init__(self, bar: Bar, owner: _Stoppable) -> None:
        self.bar, self.owner = bar, owner

    def advance(self, count: int = 1, info: str = "") -> None:
        self.bar.advance(count, info)
        if self.owner.should_stop():
            raise Interrupted(None, self.owner.folder)


class Answers:
    """Answers to fixed held-out prompts, before training and after."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        heldout: Sequence[Example],
        rule: Rule | None,
        say: Reporter,
        budget: int,
    ) -> None:
        self.config, self.rule, self.say = config, rule, say
        self.budget = budget
        self.file = folder / "samples.jsonl"
        self.prompts, self.n = choose_prompts(heldout, config.evaluate.samples)

    def before(self, learner: Callable[[], Learner]) -> None:
        """Sample from the untrained model, unless an interrupted run has done so."""
        wanted = len(self.prompts) * self.n
        if len(read_answers(self.file, "before")) < wanted:
            write_answers(self.file, "before", self._sample("before", learner())[0])
            release()  # a whole model that was loaded for this

    def compare(self, learner: Learner) -> Comparison | None:
        """Sample from the trained model, measure the KL on its text, and compare."""
        if not self.prompts:
            return None
        before = read_answers(self.file, "before")
        after, rendered = self._sample("after", learner)
        after = with_kl(
            after,
            rendered,
            learner.policy,
            learner.reference(),
            learner.switch,
            self.budget,
        )
        write_answers(self.file, "after", after)
        return summarise(before, after, self.config.seed)

    def _sample(self, stage: Stage, learner: Learner) -> tuple[list[Answer], list[Rendered]]:
        evaluate = self.config.evaluate
        with self.say.bar(f"sampling {stage}", len(self.prompts) * self.n) as bar:
            return sample_answers(
                learner.policy,
                learner.renderer,
                self.prompts,
                Sampling(
                    evaluate.max_new_tokens, evaluate.temperature, evaluate.top_k, self.config.seed
                ),
                n=self.n,
                stage=stage,
                rule=self.rule,
                advance=bar.advance,
            )


def _freeze(
    config: RunConfig,
    folder: Path,
    continues: bool,
    renderer: Renderer,
    shape: str,
    say: Reporter,
    known: Mapping[str, bool],
) -> None:
    """Prepare the data and freeze it, unless the run that is continued has done so."""
    place = folder / "snapshot"
    if continues and (place / "manifest.json").is_file():
        return
    remove_partial(place)  # the run's folder is ours alone
    try:
        prepared = prepare(
            config.data,
            config.seed,
            check=lambda example: renderer.check(example, shape),
            shape=shape,  # type: ignore[arg-type]
            known=known,
            read=reader_of(shape),
        )
    except IngestError as error:
        raise _with_rejects(error, folder / "rejects.jsonl") from error
    freeze(place, prepared, config.data, "run")
    say.table(
        "Data",
        ["stage", "count", "", "dropped, and why"],
        [[stage, str(count), unit, why] for stage, count, unit, why in prepared.funnel.rows()],
    )
    if prepared.rejects:
        say.note(f"every dropped row is listed in {place / 'rejects.jsonl'}")


def _with_rejects(error: IngestError, path: Path) -> IngestError:
    """The error, naming the file in which every refused row is listed now."""
    if not error.rejects:
        return error
    rows = [json.dumps(row.to_dict(), ensure_ascii=False) for row in error.rejects]
    write_text(path, "".join(f"{row}\n" for row in rows))
    return IngestError(f"{error}; every row and its reason: {path}")


def _train(
    task: Task,
    resume: bool,
    say: Reporter,
    should_stop: Callable[[], bool],
    on_line: Callable[[dict[str, Any]], None],
) -> Progress:
    heldout: dict[str, float] = {}
    latest: dict[str, float] = {}
    with say.bar("training", task.total_steps) as bar:
        at = 0

        def on_step(step: int, total: int, means: dict[str, float]) -> None:
            nonlocal at
            bar.advance(step - at, _words(means, heldout))
            at = step
            latest.update(means)

        def on_heldout(step: int, means: dict[str, float]) -> None:
            heldout.update(means)
            say.note(f"step {step:>4}  held-out  {_words(means, {})}")

        watch = Watcher(on_step, on_heldout, say.note, should_stop, on_line)
        progress = run_loop(task, resume=resume, watch=watch)
        bar.advance(0, _words(latest, progress.heldout))  # the last measurement came after it
        return progress


def _words(means: dict[str, float], heldout: dict[str, float]) -> str:
    parts = [f"loss {means['loss']:.3f}"] if "loss" in means else []
    if "reward" in means:
        parts.append(f"reward {means['reward']:.3f}")
    if "margin" in means:
        parts += [f"margin {means['margin']:+.2f}", f"accuracy {means['accuracy']:.0%}"]
    if "accuracy" in heldout:
        parts.append(f"held-out {heldout['accuracy']:.0%}")
    elif "reward" in heldout:
        parts.append(f"held-out {heldout['reward']:.3f}")
    return "  ".join(parts)


def _ship(config: RunConfig, folder: Path, learner: Learner) -> None:
    scalar, ends, target = learner.policy.scalar, set(learner.renderer.end_ids), folder / "model"
    write: Write = ship_full if scalar is None else partial(ship_classifier, scalar, ends)
    if learner.adapted is None:
        write(learner.policy.model, learner.tokenizer, target)
        return
    fresh = load(config.model.path, trust_remote_code=config.model.trust_remote_code)
    if weights_hash(fresh.model) != learner.plan.base_sha256:
        raise ValueError(
            f"{config.model.path} was changed while the run trained: the adapter in the checkpoint "
            "belongs to the weights of before; bring them back and continue with resume=auto"
        )
    ship_adapter(learner.adapted, fresh.model, learner.tokenizer, target, folder / "adapter", write)
