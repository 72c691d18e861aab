"""The trace as a job: an interaction as the tokens that a run, or a model, reads of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from palate.store.database import Store
from palate.store.schema import EVENT
from palate.ui.data.jobs import Job, Jobs
from palate.ui.data.snapshots import find, held

SECONDS = 300.0  # the longest that a trace may take: libraries and a tokenizer are loaded
_LONGEST_NAME = 300
_SPACES = {" ": "·", "\t": "⇥", "\n": "↵\n", "\r": "␍"}


class Tracing:
    """The traces of one site, one at a time; kept by interaction, reader and count of events."""

    def __init__(self, store: Store, db: str, runs: Path) -> None:
        self._store, self._db, self._runs = store, db, runs
        self.jobs = Jobs(SECONDS)

    def close(self) -> None:
        """End the one that runs."""
        self.jobs.close()

    def readers(self) -> list[dict[str, str]]:
        """The runs that can be chosen: key and name."""
        known = held(self._store, self._runs)
        return [{"key": one.key, "name": one.name} for one in known if one.run is not None]

    def start(self, interaction: str, run: str, model: str) -> Job:
        """Trace for a run (its key) or a model (as in a recipe); exactly one of them is given.

        Raises `ValueError` where another trace runs, `LookupError` where there is no such run.
        """
        if bool(run) == bool(model):
            raise ValueError("choose a run, or name a model")
        if len(model) > _LONGEST_NAME or not model.isprintable():
            raise ValueError("a model is named by a folder or a hub id")
        words = ["data", "trace", "--json", f"--db={self._db}"]
        if model:
            words.append(f"--model={model}")
        else:
            found = find(self._store, self._runs, run)
            if found is None or found.run is None:
                raise LookupError(run)
            words.append(f"--run={found.run}")
        about = {"run": run, "model": model}
        key = self._key(interaction, run, model)
        return self.jobs.start(key, [*words, "--", interaction], about, shown)

    def told(self, interaction: str, run: str, model: str) -> dict[str, Any]:
        """The job and what it gave; JSON-ready."""
        job = self.jobs.get(self._key(interaction, run, model))
        names = {one["key"]: one["name"] for one in self.readers()}
        return {
            "id": interaction,
            "run": run,
            "model": model,
            "reader": names.get(run, model),
            "job": job.told() if job else None,
            "trace": job.result if job else None,
        }

    def stop(self, interaction: str, run: str, model: str) -> None:
        """End this trace if it runs."""
        self.jobs.stop(self._key(interaction, run, model))

    def _key(self, interaction: str, run: str, model: str) -> str:
        query = sa.select(sa.func.count()).where(EVENT.c.interaction == interaction)
        with self._store.reading() as connection:
            events = connection.execute(query).scalar_one()
        return "\x00".join((interaction, run, model, str(events)))


def shown(raw: dict[str, Any]) -> dict[str, Any]:
    """The trace with each part's tokens one by one, and its text with what is trained in brackets.

    A token has ``id``, ``at`` (its position), ``text`` with whitespace made visible, ``kind``
    (``prompt``, ``trained`` or ``untrained``) and ``segment``.
    """
    for example in raw["examples"]:
        example["parts"] = [_part(part) for part in example["parts"]]
    return raw


def _part(part: dict[str, Any]) -> dict[str, Any]:
    quiet = "prompt" if part["name"] == "prompt" else "untrained"
    columns = zip(part["ids"], part["texts"], part["trained"], part["segments"], strict=True)
    tokens = [
        {
            "id": token,
            "at": part["begin"] + number,
            "text": visible(text),
            "kind": "trained" if trained else quiet,
            "segment": segment,
        }
        for number, (token, text, trained, segment) in enumerate(columns)
    ]
    return {
        "name": part["name"],
        "tokens": tokens,
        "trained": sum(part["trained"]),
        "spoken": spoken(part["texts"], part["trained"]),
    }


def visible(text: str) -> str:
    """Whitespace as signs; ∅ for a token whose character goes on in the next one."""
    return "".join(_SPACES.get(letter, letter) for letter in text) or "∅"


def spoken(texts: list[str], trained: list[bool]) -> str:
    """The text for those who hear it: what is trained on stands in ⟦ ⟧, as in the terminal."""
    out, inside = [], False
    for text, marked in zip(texts, trained, strict=True):
        if marked != inside:
            out.append("⟦" if marked else "⟧")
            inside = marked
        out.append(text)
    return "".join([*out, *(["⟧"] if inside else [])])
