"""The arithmetic of the measurements in docs/curation.md."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from benchmarks.dedupe import BLOCK, COPIES, RATES, Corpus, jaccard, judge
from benchmarks.language import cut
from benchmarks.personal import Tally, add
from benchmarks.straddle import leaked


def test_jaccard_of_words() -> None:
    """abc bcd, and bcd cde: one of three."""
    assert jaccard("a b c d", "b c d e") == 1 / 3


def test_rows_are_a_function_of_their_number() -> None:
    corpus = Corpus(2 * BLOCK, length=50)
    rows = [text for (text,) in corpus.texts()]
    assert len(rows) == 2 * BLOCK
    assert rows == [text for (text,) in Corpus(2 * BLOCK, length=50).texts()]
    for block, at in ((0, BLOCK - COPIES), (1, BLOCK - 1)):
        source, place = corpus.origin(block, at)
        original = rows[source * BLOCK + place]
        assert source <= block
        assert place < BLOCK - COPIES
        assert jaccard(original, rows[block * BLOCK + at]) > 0.2
        assert jaccard(rows[source * BLOCK + place - 1], rows[block * BLOCK + at]) < 0.1


def test_the_judgement_of_a_search() -> None:
    """Nothing joined: no recall. Every copy joined with its original: full recall."""
    corpus = Corpus(BLOCK, length=50)
    alone = np.arange(BLOCK)
    table = "".join(judge(corpus, alone, 0.8))
    assert f"| 1% | {COPIES // len(RATES)} |" in table
    assert "| 0.0% |" in table
    assert "copies joined: 0" in table
    roots = alone.copy()
    for at in range(BLOCK - COPIES, BLOCK):
        source, place = corpus.origin(0, at)
        roots[at] = source * BLOCK + place
    table = "".join(judge(corpus, roots, 0.0))
    assert f"copies joined: {COPIES}; precision 100.00%" in table
    assert "rows joined with a stranger: 0" in table
    roots[5] = 4
    assert "rows joined with a stranger: 1" in "".join(judge(corpus, roots, 0.0))


def test_what_is_found_missed_and_wrong() -> None:
    """A finding that touches its span finds it, though not whole; another kind does not."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    spans = [("A", 0, 4), ("A", 10, 14), ("B", 20, 24)]
    findings = [("A", 0, 2), ("A", 9, 15), ("A", 20, 24), ("A", 4, 6)]
    add(tallies, "x" * 30, spans, findings)
    assert tallies["A"].row("A") == "| A | 2 | 100.0% | 4 | 50.0% | 50.0% |\n"
    assert tallies["B"].row("B") == "| B | 1 | 0.0% | 0 | – | – |\n"
    assert len(tallies["A"].wrong) == 2


def test_the_share_of_prompts_that_leak() -> None:
    texts = [f"prompt {i}" for i in range(20)]
    assert leaked(texts, [f"{i}" for i in range(20)]) == 0
    assert leaked(texts, ["one"] * 20) == 1


def test_a_text_is_cut_at_the_end_of_a_word() -> None:
    assert cut("Where is Hull? I ask.", 6) == "Where is"
    assert cut("Where", 6) is None
