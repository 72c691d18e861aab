"""What PandaLM's three annotators said of 999 pairs: how often each triple of words occurs.

Counted in the published test set (arXiv 2306.05087; 0 is a tie, 1 and 2 the better answer).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

SHARED = Path(os.environ.get("PALATE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = SHARED / "pandalm_testset.json"

TRIPLES = {
    (0, 0, 0): 85,
    (0, 0, 1): 2,
    (0, 0, 2): 2,
    (0, 2, 0): 4,
    (0, 2, 2): 4,
    (1, 0, 0): 5,
    (1, 0, 1): 11,
    (1, 1, 0): 10,
    (1, 1, 1): 368,
    (1, 1, 2): 10,
    (1, 2, 1): 12,
    (1, 2, 2): 11,
    (2, 0, 0): 7,
    (2, 0, 2): 4,
    (2, 1, 1): 11,
    (2, 1, 2): 18,
    (2, 2, 0): 2,
    (2, 2, 1): 7,
    (2, 2, 2): 426,
}


def units() -> list[tuple[int, int, int]]:
    """One triple a pair of answers."""
    return [triple for triple, count in TRIPLES.items() for _ in range(count)]


def units_of_the_file() -> list[tuple[int, int, int]]:
    """The same from the published file; it has to be there."""
    rows = json.loads(FILE.read_text("utf-8"))
    return [(row["annotator1"], row["annotator2"], row["annotator3"]) for row in rows]
