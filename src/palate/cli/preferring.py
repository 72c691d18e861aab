"""`palate constitution prefer`: pairs by principle, from a judge asked in both orders."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from palate.cli.constitution import write_rows
from palate.cli.speaking import beside, open_speaker, place_of, prompts_of, reasons
from palate.config import ConfigError
from palate.progress import reporter_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from palate.constitution.prefer import Preferences, PrincipledJudge
    from palate.constitution.principles import Constitution
    from palate.sections import JudgeConfig
    from palate.speak.speaker import Speaker


def run_prefer(
    path: str, words: Sequence[str], model: str | None, rules: Constitution, out: Path
) -> Preferences:
    """Judge, write the pairs, and say what came of it."""
    from palate.cli.stop import Stopped
    from palate.constitution import prefer as work
    from palate.judge.build import identity
    from palate.speak.settings import read_settings

    say = reporter_for()
    chosen = read_settings(work.PreferSettings, words)
    rules = rules.only(chosen.only)
    config = _judge(chosen.judge, model)
    asked = prompts_of(path, chosen.format, chosen.limit, say)
    lacking = any(len(example.completions) < 2 for example in asked)
    if lacking and model is None:
        raise ConfigError(f"prompts of {path} lack two answers: give a --model that writes them")
    speaker = None
    if lacking and model:
        speaker = open_speaker(model, chosen.server, say, scores=_judges_too(config, model))
    plan = work.PreferPlan(chosen.average, chosen.least, chosen.manner)
    judged_by = f"{config.label} {identity(config)[:8]}"
    log = beside(out, "opinions")
    try:
        with opened(config, speaker) as judge, say.bar("prefer", len(asked)) as bar:
            rows = work.preferences(
                asked, speaker, judge, rules, plan, log, judged_by=judged_by, advance=bar.advance
            )
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what was done is in {log}: the same command goes on") from None
    write_rows(out, list(work.preferred(rows, rules, model, judged_by)))
    found = work.summarise(rows)
    left = f" (left out: {reasons(found.left_out)})" if found.left_out else ""
    say.note(f"pairs     {found.pairs} of {found.prompts} prompts: {out}{left}")
    if found.strength is not None:
        say.note(f"strength  {found.strength:.3f} on average, from one half to 1")
        say.note(f"opinions  {log}\nnext: palate train recipes/dpo.yaml data={out}")
    return found


def _judge(given: JudgeConfig | None, model: str | None) -> JudgeConfig:
    """The judge that was set, else the model itself."""
    from palate.sections import JudgeConfig

    if given is not None:
        return given
    if model is None or model.startswith(("http://", "https://")):
        raise ConfigError(
            "no judge: set judge.kind=llm judge.server.url=… judge.server.model=…, or "
            "judge.kind=local judge.model=…"
        )
    return JudgeConfig(kind="local", model=place_of(model)[0])


@contextmanager
def opened(config: JudgeConfig, speaker: Speaker | None) -> Iterator[PrincipledJudge]:
    """The judge, closed after use; the model that answers is not loaded again to judge."""
    from palate.judge.build import build_pair_judge

    judge: Any
    held = _same_model(config, speaker)
    if held is not None:
        from palate.judge.local import LocalJudge

        judge = LocalJudge(config, held)
    else:
        judge = build_pair_judge(config)
    with judge:
        if not hasattr(judge, "with_rubric"):
            raise ConfigError(
                f"a judge of kind {config.kind} takes no principle: use kind llm or local"
            )
        yield judge


def _same_model(config: JudgeConfig, speaker: Speaker | None) -> Any:
    from palate.judge.holding import Held

    if speaker is None or not _judges_too(config, speaker.name):
        return None
    return Held(speaker.policy, speaker.renderer, speaker.limit)  # type: ignore[attr-defined]


def _judges_too(config: JudgeConfig, model: str) -> bool:
    """Whether the judge is the model of this machine that writes the answers."""
    if config.kind != "local" or config.device != "auto" or "://" in model:
        return False
    return config.model == place_of(model)[0]
