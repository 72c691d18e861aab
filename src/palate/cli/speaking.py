"""What commands that ask a model have in common: which one, how, and with which prompts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.cli.runs import finished_model, is_run, run_config, run_folder
from palate.config import ConfigError, RunConfig
from palate.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palate.records import Example, Reject
    from palate.speak.speaker import Speaker


def open_speaker(
    model: str, server: Mapping[str, Any], say: Reporter, *, scores: bool = False
) -> Speaker:
    """What `model` names, ready to be asked; raises `ValueError` with the cure.

    A URL is an OpenAI-compatible server, `server` what else is to be known of it. `scores`: a
    model of this machine is to judge as well.
    """
    if model.startswith(("http://", "https://")):
        from palate.speak.remote import open_remote

        return open_remote(model, server)
    if server:
        raise ConfigError(f"server.{next(iter(server))} is for a model behind a URL")
    place, template, trust = place_of(model)
    say.note(f"loading {place} …")
    from palate.speak.local import open_local

    return open_local(place, template=template, trust_remote_code=trust, name=model, probed=scores)


def place_of(model: str) -> tuple[str, Any, bool]:
    """(where the weights are, chat template, whether its own code may run) of a model's name.

    Raises `ConfigError` for a run that is not finished or whose model writes nothing.
    """
    if not is_run(model):
        return model, "auto", False
    folder = run_folder(model)
    config = run_config(folder)
    refuse_classifier(config, model)
    return finished_model(folder), config.data.template, config.model.trust_remote_code


def refuse_classifier(config: RunConfig, model: str) -> None:
    """`ConfigError` for a run that trained a head which scores."""
    from palate.losses.registry import method_of

    if method_of(config)[0].head == "scalar":
        raise ConfigError(f"{model} is a reward model: it scores answers, and cannot give any")


def prompts_of(path: str, format: str, limit: int | None, say: Reporter) -> list[Example]:
    """The prompts of a file, with what could not be used said in one line."""
    from palate.ingest.prompts import read_prompts

    refused: Counter[str] = Counter()

    def count(reject: Reject) -> None:
        refused[reject.reason] += 1

    found = read_prompts(path, format, count)
    plain = [example for example in found if not example.tools]
    refused["with-tools"] += len(found) - len(plain)
    if not plain:
        raise ConfigError(f"every prompt of {path} comes with tools, which are not offered here")
    if refused.total():
        say.note(f"left out: {reasons(refused)}")
    return plain[:limit]


def reasons(counts: Counter[str]) -> str:
    """`leak 3, empty 1`, the most frequent first."""
    return ", ".join(f"{name} {number}" for name, number in counts.most_common() if number)


def beside(path: Path, word: str) -> Path:
    """`out.jsonl` to `out.WORD.jsonl`."""
    return path.with_name(f"{path.stem}.{word}.jsonl")
