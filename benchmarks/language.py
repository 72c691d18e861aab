"""The language filter by the length of a text: what is refused wrongly, and what is let through.

    python benchmarks/language.py

Judged are English texts of public files (support queries, prompts, sums, answers), cut after a
number of letters, and spaCy's example sentences in other languages; wanted is English. A good
threshold is the length from which hardly an English text is refused.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ENGLISH = (
    "banking77_train.csv",
    "xstest_prompts.csv",
    "ifeval_prompts.jsonl",
    "gsm8k_test.jsonl",
    "polite_pairs.json",
)
LENGTHS = (10, 20, 30, 40, 60, 100, 200)
SAMPLE = 2_000


def english() -> list[str]:
    """Prompts of the public files, a sample."""
    from palate.curate.contamination import prompts_in

    texts = [text for name in ENGLISH for _, text in prompts_in(SHARED / name)]
    return random.Random(0).sample(texts, SAMPLE)


def foreign(known: set[str]) -> Iterator[tuple[str, str]]:
    """(language, sentence) of spaCy's examples, in the languages that the identifier knows."""
    import spacy.lang

    for module in pkgutil.iter_modules(spacy.lang.__path__):
        if module.name in known - {"en"}:
            try:
                examples = importlib.import_module(f"spacy.lang.{module.name}.examples")
            except ImportError:
                continue
            yield from ((module.name, sentence) for sentence in examples.sentences)


def cut(text: str, letters: int) -> str | None:
    """The text up to so many letters, at the end of a word; None if it has fewer."""
    seen = 0
    for at, letter in enumerate(text):
        seen += letter.isalpha()
        if seen >= letters and not text[at + 1 : at + 2].isalnum():
            return text[: at + 1]
    return None


def share(judge: Callable[[str], str | None], texts: list[str]) -> str:
    """How many of the texts are refused."""
    refused = sum(judge(text) is not None for text in texts)
    return f"{refused / len(texts):.2%} of {len(texts):,}" if texts else "–"


def main() -> None:
    """Print the table."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    from palate.curate import language

    known = set(LanguageIdentifier.from_model_file(MODEL_FILE).labels)
    texts, others = english(), [sentence for _, sentence in foreign(known)]
    sys.stdout.write(
        "| letters | English, best guess alone | English refused | other languages refused |\n"
        "|---|---|---|---|\n"
    )
    threshold = language.FEWEST_LETTERS
    language.FEWEST_LETTERS = 0
    judge = language.language_judge(["en"])
    for letters in LENGTHS:
        mine = [short for text in texts if (short := cut(text, letters))]
        theirs = [short for text in others if (short := cut(text, letters))]
        language.UNLIKELY, kept = 1.0, language.UNLIKELY
        alone = share(judge, mine)
        language.UNLIKELY = kept
        refused = f"{share(judge, mine)} | {share(judge, theirs)}"
        sys.stdout.write(f"| {letters} | {alone} | {refused} |\n")
    sys.stdout.write(f"texts of fewer than {threshold} letters are not judged\n")


if __name__ == "__main__":
    main()
