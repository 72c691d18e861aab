"""`palate best-of`: n answers to each prompt, and of each the one that the judge likes best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palate.progress import Reporter, reporter_for

if TYPE_CHECKING:
    from palate.rollout.best import Summary


def run_best_of(
    prompts: str,
    settings: Sequence[str],
    *,
    model: str,
    judge: str,
    n: int,
    out: str,
    as_json: bool = False,
) -> None:
    """Sample, judge, write and tell; raises `ValueError` with the cure."""
    from palate.cli.judging import judge_config
    from palate.cli.speaking import place_of, prompts_of
    from palate.durable import write_text
    from palate.generate.sampling import Sampling
    from palate.judge.build import build_scorer
    from palate.rollout import best
    from palate.speak.local import open_policy
    from palate.speak.settings import AskSettings, read_settings

    class BestSettings(AskSettings):
        """How a model is asked, and where best against worst goes, as pairs."""

        pairs: str | None = None

    say = reporter_for()
    how = read_settings(BestSettings, settings)
    scorer = build_scorer(judge_config(judge))
    try:
        asked = prompts_of(prompts, "auto", how.limit, say)
        place, template, trust = place_of(model)
        say.note(f"loading {place} …")
        policy, renderer = open_policy(place, template, trust)
        sampling = Sampling(how.max_new_tokens, how.temperature, how.top_k, how.seed)
        with say.bar(f"best of {n}", len(asked)) as bar:
            found, unasked = best.best_of(policy, renderer, asked, scorer, sampling, n, bar.advance)
    finally:
        scorer.close()
    summary = best.summarise(found, n, unasked)
    rows = best.demonstrations(found)
    write_text(Path(out), "".join(f"{row}\n" for row in rows))
    if how.pairs is not None:
        write_text(Path(how.pairs), "".join(f"{row}\n" for row in best.pairs(found)))
    if as_json:
        typer.echo(json.dumps({**summary.to_dict(), "written": len(rows)}))
    else:
        _show(summary, len(rows), out, say)


def _show(summary: Summary, written: int, out: str, say: Reporter) -> None:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    rows = [
        ["score", shown(summary.one, ".3f"), shown(summary.best, ".3f")],
        ["passed", shown(summary.passed_one, ".0%"), shown(summary.passed_best, ".0%")],
    ]
    say.table(f"{summary.prompts} prompts", ["", "one answer", f"best of {summary.n}"], rows)
    say.note(
        f"the best of {summary.n} is at most {summary.bound:.2f} nats from the model "
        f"(ln n − (n − 1)/n)"
    )
    if summary.failed or summary.left_out:
        say.note(
            f"left out: {summary.failed} answers that the judge failed on, {summary.left_out} "
            "prompts without an answer"
        )
    say.note(f"{written} best answers in {out}: palate train recipes/sft.yaml data={out}")
