"""Lint as a job: what it found, for which state of the store, and the interactions it names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from palate.curate.lint.findings import Report
from palate.store.database import Store
from palate.store.schema import INTERACTION
from palate.ui.data.jobs import Job, Jobs
from palate.ui.data.overview import state_of
from palate.ui.data.snapshots import Held, find

SECONDS = 1_800.0  # the longest that a lint may take
CURE = 'lint needs scikit-learn: pip install "palate[data]"'


class Linting:
    """The lints of one site, one at a time; results end with the server."""

    def __init__(self, store: Store, db: str, runs: Path) -> None:
        self._store, self._db, self._runs = store, db, runs
        self.jobs = Jobs(SECONDS)

    def close(self) -> None:
        """End the one that runs."""
        self.jobs.close()

    def start(self, key: str) -> Job:
        """Lint the store (an empty key) or a snapshot.

        Raises `ValueError` where another lint runs or scikit-learn is missing, `LookupError` where
        there is no such snapshot.
        """
        if find_spec("sklearn") is None:
            raise ValueError(CURE)
        held = self._held(key)
        target = str(held.target) if held else self._db
        about: dict[str, Any] = {"of": key, "name": held.name if held else self._store.name}
        about["store"] = state_of(self._store)
        words = ["data", "lint", "--json", "--", target]
        return self.jobs.start(key, words, about, self._read)

    def told(self, key: str) -> dict[str, Any]:
        """The job and its findings; JSON-ready. Raises `LookupError` as `start` does."""
        held = self._held(key)
        now = state_of(self._store)
        job = self.jobs.get(key)
        gone = job is not None and job.about["store"]["erased"] != now["erased"]
        if job is not None and gone and job.state != "running":
            self.jobs.forget(key)  # it may quote what was erased
            job = None
        facts: dict[str, Any] = {
            "of": key,
            "name": held.name if held else self._store.name,
            "is_store": held is None,
            "missing": "" if find_spec("sklearn") is not None else CURE,
            "job": job.told() if job else None,
            "report": job.result if job else None,
            "dropped": gone and job is None,
            "later": {"interactions": 0, "events": 0},
        }
        if job is not None and held is None:
            then = job.about["store"]
            facts["later"] = {name: max(0, now[name] - then[name]) for name in facts["later"]}
        return facts

    def _held(self, key: str) -> Held | None:
        if not key:
            return None
        found = find(self._store, self._runs, key)
        if found is None:
            raise LookupError(key)
        return found

    def _read(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The report with links: each named example with the interactions it was made of."""
        places: dict[str, list[dict[str, Any]]] = raw.pop("places", {})
        raw.pop("target", None)
        report = Report.from_dict(raw)
        known = interactions_of(self._store, _hashes(places))
        return {
            "shape": report.shape,
            "given": report.given,
            "read": report.read,
            "warnings": report.warnings,
            "notes": len(report.findings) - report.warnings,
            "findings": [
                {
                    "check": one.check,
                    "severity": one.severity,
                    "said": one.number.said,
                    "number": one.number.name,
                    "of": one.number.of,
                    "sentence": one.sentence,
                    "cure": one.cure,
                    "examples": [_example(key, places.get(key, []), known) for key in one.examples],
                }
                for one in report.findings
            ],
            "numbers": [
                {"check": one.check, "said": one.said, "of": one.of, "name": one.name}
                for one in report.numbers
            ],
        }


def interactions_of(store: Store, hashes: list[str]) -> dict[str, str]:
    """The interactions whose first row has one of the hashes, by hash; not those erased."""
    found: dict[str, str] = {}
    with store.reading() as connection:
        for at in range(0, len(hashes), 500):
            query = sa.select(INTERACTION.c.hash, INTERACTION.c.id).where(
                INTERACTION.c.hash.in_(hashes[at : at + 500]), INTERACTION.c.erased.is_(None)
            )
            found.update({row.hash: row.id for row in connection.execute(query)})
    return found


def _hashes(places: dict[str, list[dict[str, Any]]]) -> list[str]:
    return sorted({p["hash"] for listed in places.values() for p in listed if p["hash"]})


def _example(key: str, places: list[dict[str, Any]], known: dict[str, str]) -> dict[str, Any]:
    found = [known[p["hash"]] for p in places if p["hash"] in known]
    where = [f"{p['source']}, line {p['line']}" for p in places[:1]]
    return {"id": key, "interactions": list(dict.fromkeys(found)), "place": "".join(where)}
