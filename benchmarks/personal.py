"""Precision and recall of the search for personal data, for each kind.

    python benchmarks/personal.py                                   # presidio's synthetic texts
    python benchmarks/personal.py --alone                           # presidio without our own part
    python benchmarks/personal.py --missed PHONE_NUMBER --wrong PHONE_NUMBER
    python benchmarks/personal.py --read FILE… --show PHONE_NUMBER  # what is found in other data

A span of the data is found if a finding of its kind overlaps it by a character or more; a finding
is right if it overlaps a span of its kind. *Whole* is the share of the found spans of which no
character is left over after redaction. Kinds of the data that nothing looks for count as missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "presidio_synth_v2.json"
SAME = {"DOMAIN_NAME": "URL"}
"""Names of the data for kinds that are called otherwise here."""

Named = tuple[str, int, int]
"""Kind, begin and end of a span or a finding."""


@dataclass(slots=True)
class Tally:
    """What happened to the spans and findings of one kind."""

    spans: int = 0
    whole: int = 0
    missed: list[str] = field(default_factory=list)
    findings: int = 0
    wrong: list[str] = field(default_factory=list)

    def row(self, kind: str) -> str:
        """A line of the table."""
        found = self.spans - len(self.missed)
        recall = f"{found / self.spans:.1%}" if self.spans else "–"
        right = self.findings - len(self.wrong)
        precision = f"{right / self.findings:.1%}" if self.findings else "–"
        whole = f"{self.whole / found:.1%}" if found else "–"
        return f"| {kind} | {self.spans} | {recall} | {self.findings} | {precision} | {whole} |\n"


def add(tallies: dict[str, Tally], text: str, spans: list[Named], findings: list[Named]) -> None:
    """Count one text: what was to be found in it, and what was."""

    def said(begin: int, end: int) -> str:
        before, after = text[max(0, begin - 40) : begin], text[end : end + 20]
        return f"{before}[{text[begin:end]}]{after}".replace("\n", "⏎")

    for kind, begin, end in spans:
        hits = _overlapping(kind, begin, end, findings)
        covered = {at for _, first, last in hits for at in range(first, last)}
        tallies[kind].spans += 1
        tallies[kind].whole += covered >= set(range(begin, end))
        tallies[kind].missed += [] if hits else [said(begin, end)]
    for kind, begin, end in findings:
        tallies[kind].findings += 1
        if not _overlapping(kind, begin, end, spans):
            tallies[kind].wrong.append(said(begin, end))


def _overlapping(kind: str, begin: int, end: int, others: list[Named]) -> list[Named]:
    return [other for other in others if other[0] == kind and other[1] < end and begin < other[2]]


def presidio_alone() -> Callable[[str], list[Any]]:
    """A search by presidio's recognizers alone, at the score from which we believe it."""
    from presidio_analyzer import predefined_recognizers as predefined

    from palate.curate.personal import apart
    from palate.curate.recognizers import LEAST_SCORE, Found, presidio_engine

    engine = presidio_engine()
    for name in ("PhoneRecognizer", "CreditCardRecognizer", "IbanRecognizer"):
        engine.registry.add_recognizer(getattr(predefined, name)())

    def search(text: str) -> list[Found]:
        results = engine.analyze(text, "en", score_threshold=LEAST_SCORE)
        return apart(Found(r.start, r.end, r.entity_type, r.score) for r in results)

    return search


def measure(search: Callable[[str], list[Any]]) -> tuple[dict[str, Tally], int, float]:
    """(tallies by kind, texts, seconds)."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    rows = json.loads(DATA.read_text(encoding="utf-8"))
    seconds = 0.0
    for row in rows:
        text = row["full_text"]
        begun = time.perf_counter()
        found = search(text)
        seconds += time.perf_counter() - begun
        spans = [
            (SAME.get(s["entity_type"], s["entity_type"]), s["start_position"], s["end_position"])
            for s in row["spans"]
        ]
        add(tallies, text, spans, [(one.kind, one.start, one.end) for one in found])
    return dict(tallies), len(rows), seconds


def read(search: Callable[[str], list[Any]], paths: Sequence[Path], show: Sequence[str]) -> None:
    """How often each kind is found in other data, and where."""
    from palate.curate.said import answer_text
    from palate.ingest import read_examples

    found: dict[str, list[str]] = defaultdict(list)
    texts = 0
    for example in read_examples(paths):
        said = [message.content for message in example.prompt]
        for text in [*said, *map(answer_text, example.completions)]:
            texts += 1
            for one in search(text):
                before, after = text[max(0, one.start - 40) : one.start], text[one.end :][:20]
                found[one.kind].append(f"{before}[{text[one.start : one.end]}]{after}")
    sys.stdout.write(f"{texts:,} texts\n")
    for kind, places in sorted(found.items()):
        sys.stdout.write(f"{kind}: {len(places)}\n")
        if kind in show:
            sys.stdout.writelines(f"    {place!r}\n" for place in places)


def main() -> None:
    """Print the table, or what was found in other data."""
    from palate.curate.personal import KINDS, MORE_KINDS, personal_search

    parser = argparse.ArgumentParser(description="Precision and recall of personal data.")
    parser.add_argument("--alone", action="store_true", help="presidio without our own part")
    parser.add_argument("--missed", nargs="*", default=[], metavar="KIND", help="list what is")
    parser.add_argument("--wrong", nargs="*", default=[], metavar="KIND", help="list what is")
    parser.add_argument("--read", nargs="*", type=Path, metavar="FILE", help="other data")
    parser.add_argument("--show", nargs="*", default=[], metavar="KIND", help="list what is found")
    args = parser.parse_args()
    search = presidio_alone() if args.alone else personal_search(KINDS + MORE_KINDS)
    if args.read:
        read(search, args.read, args.show)
        return
    tallies, texts, seconds = measure(search)
    sys.stdout.write(
        "| kind | spans | recall | findings | precision | whole |\n|---|---|---|---|---|---|\n"
    )
    for kind, tally in sorted(tallies.items(), key=lambda item: (not item[1].findings, item[0])):
        sys.stdout.write(tally.row(kind))
    sys.stdout.write(f"{texts:,} texts, {1000 * seconds / texts:.1f} ms each\n")
    for kind in args.missed:
        sys.stdout.writelines(f"missed {kind}: {said}\n" for said in tallies[kind].missed)
    for kind in args.wrong:
        sys.stdout.writelines(f"wrong {kind}: {said}\n" for said in tallies[kind].wrong)


if __name__ == "__main__":
    main()
