"""`palate guard train`: a run whose method is the classifier, then its calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.config import RunConfig
from palate.curate.prepare import prepare
from palate.durable import write_json
from palate.guard.calibration import fit_calibration
from palate.guard.check import Guard, kind_of
from palate.guard.evaluation import Figures, latency_facts, measure, measure_latency
from palate.guard.heldout import choose_folds, cross_fitted, unsafe_rows
from palate.guard.metrics import curve
from palate.guard.page import write_page
from palate.guard.scoring import open_scorer
from palate.guard.settings import (
    FILE,
    MODEL,
    Goal,
    Reading,
    Saved,
    check_recipe,
    model_hash,
)
from palate.losses.registry import find
from palate.progress import Quiet, Reporter
from palate.records import Example
from palate.run import train
from palate.store.judged import read_judged
from palate.store.snapshot import read_snapshot
from palate.train.folder import read_plan
from palate.train.setup import renderer_without_weights


@dataclass(frozen=True, slots=True)
class Trained:
    """A guard in its folder, what was measured on the held-out rows, and `guard.json` whole."""

    folder: Path
    guard: Guard
    figures: Figures
    results: dict[str, Any]

    @property
    def page(self) -> Path:
        """The page with the figures."""
        return self.folder / "guard.html"


def train_guard(
    config: RunConfig,
    goal: Goal | None = None,
    *,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train the classifier that the recipe describes, calibrate it, and measure it.

    Raises what `palate.run.train` raises, and `ValueError` for a recipe that gives no guard, and
    for held-out rows that calibrate none: before training where those can be known.
    """
    say, goal = reporter or Quiet(), goal or Goal()
    check_recipe(config)
    if not (config.folder / "snapshot" / "manifest.json").is_file():
        _look_ahead(config)
    run = train(config, reporter=say, should_stop=should_stop)
    examples = read_snapshot(run.folder / "snapshot").heldout
    return calibrate(run.folder, run.config, examples, goal, say)


def calibrate(
    folder: Path, config: RunConfig, examples: Sequence[Example], goal: Goal, say: Reporter
) -> Trained:
    """Calibrate the classifier of a finished run on held-out examples; write the folder's guard."""
    reading = _reading(folder, config)
    scorer = open_scorer(folder / MODEL, reading, config.train.device)
    rendered = [scorer.render(example) for example in examples]
    with say.bar("scoring held-out", len(examples)) as bar:
        scores_N = scorer.scores(rendered, bar.advance)
    unsafe_N = unsafe_rows(examples)
    kinds = Counter(kind_of(example) for example in examples)
    saved = Saved(
        fit_calibration(scores_N, unsafe_N),
        goal.threshold(curve(scores_N, unsafe_N)),
        goal,
        dict(sorted(kinds.items())),
        reading,
        model_hash(folder),
    )
    judged = cross_fitted(scores_N, unsafe_N, choose_folds(examples, config.seed), goal)
    figures = measure(judged, examples)
    guard = Guard(scorer, saved)
    tokens = [len(one.branches[0].ids) for one in rendered]
    latency = latency_facts(
        measure_latency(lambda example: guard.check([example]), examples, tokens)
    )
    results = {
        **saved.to_dict(),
        "figures": figures.to_dict(),
        "latency": latency,
        "selected_on_heldout": config.train.best is not None,
    }
    write_json(folder / FILE, results)
    trained = Trained(folder, guard, figures, results)
    write_page(trained.page, config.name, saved, figures, judged, latency)
    return trained


def _look_ahead(config: RunConfig) -> None:
    """Raise `ValueError` before training where the held-out rows will not calibrate."""
    method, _ = find(config.method)
    renderer = renderer_without_weights(config)
    prepared = prepare(
        config.data,
        config.seed,
        check=lambda example: renderer.check(example, method.shape),
        shape="labelled",
        read=read_judged,
    )
    choose_folds(prepared.heldout, config.seed)


def _reading(folder: Path, config: RunConfig) -> Reading:
    """How the run read its data, and how it computed."""
    plan, renderer = read_plan(folder), renderer_without_weights(config)
    assert plan is not None, "a finished run has its plan"
    others = sorted(renderer.end_ids - {renderer.end_id})
    return Reading(
        "chat" if renderer.chat else "raw",
        renderer.max_length,
        renderer.max_prompt_length,
        config.data.system,
        (renderer.end_id, *others),
        plan.layout,
        plan.precision,
    )
