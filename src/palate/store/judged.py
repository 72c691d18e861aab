"""What a recipe's `data.path` names, read: files, hub data sets and stores alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from palate.config import DataConfig
from palate.curate.prepare import Read, from_files
from palate.curate.rejects import OnReject
from palate.curate.signals import Judged, attach
from palate.ingest.prompts import bare_prompts, is_bare
from palate.store.database import Store, is_store
from palate.store.reading import stored, waiting_signals


def read_judged(config: DataConfig, on_reject: OnReject) -> Iterable[Judged]:
    """Interactions with the signals about them, of all places in their order.

    A store is opened and not made: `StoreError` if it is not there.
    """
    places = [config.path] if isinstance(config.path, str) else list(config.path)
    files = [place for place in places if not is_store(place)]
    parts: list[Iterable[Judged]] = []
    if files:
        parts.append(from_files(config.model_copy(update={"path": files}), on_reject))
    parts += [_from_store(place, on_reject) for place in places if is_store(place)]
    return chain.from_iterable(parts)


def read_asked(config: DataConfig, on_reject: OnReject) -> Iterable[Judged]:
    """The same for prompts to be answered anew: files of nothing but prompts are read too."""
    places = [config.path] if isinstance(config.path, str) else list(config.path)
    bare = [p for p in places if config.format == "auto" and not is_store(p) and is_bare(p)]
    parts: list[Iterable[Judged]] = [
        (Judged(example) for example in bare_prompts(place, on_reject)) for place in bare
    ]
    others = [place for place in places if place not in bare]
    if others:
        parts.append(read_judged(config.model_copy(update={"path": others}), on_reject))
    return chain.from_iterable(parts)


def reader_of(shape: str) -> Read:
    """What reads the data of a method that wants this shape."""
    return read_asked if shape == "prompt" else read_judged


def stores_of(config: DataConfig) -> list[str]:
    """The stores among the places of `data.path`."""
    places = [config.path] if isinstance(config.path, str) else config.path
    return [place for place in places if is_store(place)]


def _from_store(place: str, on_reject: OnReject) -> Iterator[Judged]:
    with Store.open(place, create=False) as store:
        waiting = waiting_signals(store)
        if not waiting:
            for one in stored(store):
                yield Judged(one.example, one.signals)
            return
        every = list(stored(store))
    signals = [(signal, at) for at, one in enumerate(every) for signal in one.signals]
    examples = [one.example for one in every]
    yield from attach(examples, [*signals, *((one, None) for one in waiting)], on_reject)
