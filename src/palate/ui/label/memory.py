"""What was said so far, by item and by annotator, as the queue needs it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from palate.store.schema import ASIDES
from palate.store.voting import Word


class Memory:
    """Words by the `canonical` key of their item. Not safe by itself: the queue locks it.

    While the store is read anew, what is said meanwhile is written down too and said again after
    (`begin`, `replace`).
    """

    def __init__(self, wanted: Callable[[str], int]) -> None:
        self._wanted = wanted
        self.gone: set[str] = set()
        self._meanwhile: list[tuple[str, Word, bool]] | None = None
        self._clear()

    def _clear(self) -> None:
        self._flags: dict[str, set[str]] = defaultdict(set)
        self._by_item: dict[str, set[str]] = defaultdict(set)
        self._done: set[str] = set()
        self._begun: set[str] = set()
        self._mine: dict[str, dict[str, dict[int, Word]]] = defaultdict(dict)
        self._order: dict[str, dict[str, tuple[str, Word]]] = defaultdict(dict)

    def begin(self) -> None:
        """Write down what comes from here on."""
        self._meanwhile = []

    def replace(self, said: Iterable[Word]) -> None:
        """Take the words of the store for what was known, and then what came meanwhile."""
        self._clear()
        for word in said:
            self._note(key_of(word), word)
        for key, word, kept in self._meanwhile or ():
            (self._note if kept else self._forget)(key, word)
        self._meanwhile = None

    def note(self, key: str, word: Word) -> None:
        """Somebody said this."""
        if self._meanwhile is not None:
            self._meanwhile.append((key, word, True))
        self._note(key, word)

    def forget(self, key: str, word: Word) -> None:
        """Somebody took this back."""
        if self._meanwhile is not None:
            self._meanwhile.append((key, word, False))
        self._forget(key, word)

    def rounds(self, annotator: str, key: str) -> Collection[int]:
        """In which rounds the annotator has said something of the item."""
        return self._mine[annotator].get(key, {}).keys()

    def seen(self, annotator: str) -> Collection[str]:
        """The items that the annotator has had a word on, or has passed over."""
        return self._mine[annotator].keys()

    def said(self, annotator: str, places: int) -> int:
        """How many words on so many answers at once the annotator has said."""
        words = (word for _, word in self._order[annotator].values())
        return sum(len(word.shown) == places and word.kind not in ASIDES for word in words)

    def history(self, annotator: str) -> Sequence[tuple[str, Word]]:
        """The annotator's words in the order in which they were said last."""
        return list(self._order[annotator].values())

    def is_done(self, key: str) -> bool:
        """Whether as many annotators as it is for have judged the item, or it is no more."""
        return key in self._done or key in self.gone

    def is_flagged(self, key: str) -> bool:
        """Whether somebody has reported the item."""
        return bool(self._flags.get(key))

    def closed(self) -> Collection[str]:
        """All that are done."""
        return self._done | self.gone

    def begun(self) -> Collection[str]:
        """What is for two, and one has judged."""
        return set(self._begun)

    def touched(self) -> Collection[str]:
        """What anybody has judged."""
        return {key for key, who in self._by_item.items() if who}

    def _note(self, key: str, word: Word) -> None:
        for name in {key, key_of(word)}:
            self._mine[word.annotator].setdefault(name, {})[word.round] = word
            self._judged(name, word)
        order = self._order[word.annotator]
        order.pop(word.id, None)
        order[word.id] = key, word

    def _forget(self, key: str, word: Word) -> None:
        for name in {key, key_of(word)}:
            rounds = self._mine[word.annotator].get(name, {})
            rounds.pop(word.round, None)
            if not rounds:
                self._mine[word.annotator].pop(name, None)
            self._judged(name, word)
        self._order[word.annotator].pop(word.id, None)

    def _judged(self, key: str, word: Word) -> None:
        """Count whether the word's annotator has judged the item, and has reported it."""
        kinds = {one.kind for one in self._mine[word.annotator].get(key, {}).values()}
        who, flags = self._by_item[key], self._flags[key]
        (who.add if kinds - {*ASIDES} else who.discard)(word.annotator)
        (flags.add if "flag" in kinds else flags.discard)(word.annotator)
        full = len(who) >= self._wanted(key)
        (self._done.add if full else self._done.discard)(key)
        (self._begun.add if who and not full else self._begun.discard)(key)


def key_of(word: Word) -> str:
    """The canonical key of a word's item: where its answers stand."""
    return f"{word.interaction}.{'.'.join(map(str, sorted(word.shown)))}"
