"""Take an experiment's figures into the docs: `python scripts/experiments.py [--check] [FOLDER …]`.

A FOLDER is what `palate experiments NAME` wrote: its figures go to `docs/experiments/NAME.json`,
its drawing to `NAME.svg`. Then, or without any, the table in each `docs/experiments/NAME.md`,
between its two marks, is written from NAME.json; with `--check` nothing is written, and the exit
code is 1 if a page says something else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from palate.experiments.experiment import FIGURES
from palate.experiments.listed import LISTED

PAGES = Path(__file__).resolve().parents[1] / "docs" / "experiments"
BEGIN, END = "<!-- table: from the figures -->", "<!-- end of the table -->"


def take(folder: Path) -> None:
    """Copy the figures and the drawing of a run at full scale."""
    name = json.loads((folder / FIGURES).read_text(encoding="utf-8"))["experiment"]
    shutil.copyfile(folder / FIGURES, PAGES / f"{name}.json")
    shutil.copyfile(folder / f"{name}.svg", PAGES / f"{name}.svg")


def table(figures: Path) -> str:
    """The table as Markdown, with how many seeds there were."""
    body = json.loads(figures.read_text(encoding="utf-8"))
    header, *rows = body["table"]
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    seeds = {point["seeds"] for point in body["points"]}
    counted = "one seed" if seeds == {1} else f"{min(seeds)} seeds, ± one standard deviation"
    return f"{text}\n\n({counted})"


def filled(page: str, text: str, name: str) -> str:
    """The page with the table between its marks; raises `ValueError` without the marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"docs/experiments/{name}.md needs `{BEGIN}` and then `{END}`, once each")
    before, after = page.split(BEGIN, maxsplit=1)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    """Take, fill, and say what differs."""
    parser = argparse.ArgumentParser(description="Experiments' figures in the docs.")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    for folder in args.folders:
        take(folder)
    stale = []
    for figures in sorted(PAGES.glob("*.json")):
        name = figures.stem
        page = PAGES / f"{name}.md"
        if name not in LISTED or not page.is_file():
            raise ValueError(f"{figures} belongs to no page")
        said = page.read_text(encoding="utf-8")
        text = filled(said, table(figures), name)
        if text == said:
            continue
        stale.append(name)
        if not args.check:
            page.write_text(text, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{'stale' if args.check else 'wrote'}: docs/experiments/{name}.md\n")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
