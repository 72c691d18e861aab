"""The whole of `palate eval`: from models and texts to each run's `evaluation/` folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.config import RunConfig
from palate.durable import write_json, write_text
from palate.evaluate.measure.candidate import Candidate, check_place
from palate.evaluate.measure.gathering import Gathered, Texts, gather
from palate.evaluate.measure.report import Judges, report_of
from palate.evaluate.report import write_report
from palate.evaluate.runfolder import read_run
from palate.progress import Reporter
from palate.records import digest
from palate.sections import GateConfig

FOLDER, REPORT, ANSWERS = "evaluation", "report.json", "answers.jsonl"


def assess(
    candidates: Sequence[Candidate],
    base: Candidate,
    texts: Texts,
    config: RunConfig,
    gates: Sequence[GateConfig],
    judges: Judges,
    say: Reporter,
    *,
    write: bool,
) -> list[tuple[dict[str, Any], Gathered, Gathered]]:
    """Measure each candidate beside the base: (report, what it gave, what the base gave).

    `gates` has what each must reach. With `write`, runs get `evaluation/report.json`, the ship card
    in it, `evaluation/answers.jsonl`, and their report page anew. Everything that costs a model's
    time is kept in the cache on the way, so the same call goes on after a kill. Raises as the
    judges do, and `ValueError` with the cure.
    """
    for candidate in (*candidates, base):
        check_place(candidate)
    found, first, on_theirs = gather(
        candidates,
        base,
        texts,
        max_length=config.data.max_length,
        device=config.train.device,
        say=say,
    )
    out = []
    for mine, scores, gate in zip(found, on_theirs, gates, strict=True):
        report = report_of(mine, first, scores, texts, config, gate, judges, say)
        run = mine.candidate.run
        if run is not None and write:
            report["card"] = card_of(run, report)
            (run / FOLDER).mkdir(exist_ok=True)
            write_text(run / FOLDER / ANSWERS, answer_lines(texts, mine, first))
            write_json(run / FOLDER / REPORT, report)
            write_report(run)
        out.append((report, mine, first))
    return out


def card_of(run: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The ship card: what the model is made of, and the figures that let it out or keep it in."""
    files = read_run(run)
    wins, answers, drift = (report[name] or {} for name in ("wins", "answers", "drift"))
    return {
        "run": run.resolve().name,
        "passed": report["gate"]["passed"],
        "base": report["base"],
        "gate": report["gate"]["settings"],
        "data_hash": files.manifest.get("content_hash"),
        "config_hash": digest(files.config_text)[:16],
        "method": files.results.get("method"),
        "versions": files.environment.get("versions"),
        "git": files.environment.get("git"),
        "win_rate": wins.get("rate"),
        "win_rate_interval": wins.get("interval"),
        "kl": drift.get("kl"),
        "words_change": answers.get("words_change"),
    }


def answer_lines(texts: Texts, mine: Gathered, base: Gathered) -> str:
    """All answers of both models: one prompt a line, its set beside it."""
    lines = []
    for asked in texts.sets:
        for example, ours, theirs in zip(
            asked.examples, mine.answers[asked.name], base.answers[asked.name], strict=True
        ):
            row = {
                "set": asked.name,
                "prompt": [message.to_dict() for message in example.prompt],
                "model": [one.text for one in ours],
                "base": [one.text for one in theirs],
            }
            lines.append(json.dumps(row, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)
