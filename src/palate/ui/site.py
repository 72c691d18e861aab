"""What the routes of the site share: the store, the folder of runs, and each area's own object."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from palate.store.database import Store
from palate.ui.people import People
from palate.ui.settings import Settings

T = TypeVar("T")


class Site:
    """One site, from its start to its end; safe from several threads."""

    def __init__(self, settings: Settings, say: Callable[[str], None] = lambda text: None) -> None:
        self.settings, self.say = settings, say
        self.people = People(settings.token, settings.me)
        self.runs: Path = settings.runs
        self.url = f"http://{settings.host}:{settings.port}"
        self._lock = threading.RLock()
        self._areas: dict[str, Any] = {}
        self.store = Store.open(settings.db)
        """Each block of `reading` and `writing` takes a connection of its own."""

    def area(self, key: str, make: Callable[[Site], T]) -> T:
        """The long-lived object of an area, made when it is first asked for."""
        with self._lock:
            if key not in self._areas:
                self._areas[key] = make(self)
            return cast(T, self._areas[key])

    def close(self) -> None:
        """Close the areas that have something to close, the last made first, and the store."""
        with self._lock:
            for made in reversed(self._areas.values()):
                close = getattr(made, "close", None)
                if close is not None:
                    with suppress(Exception):
                        close()
            self._areas.clear()
        self.store.close()
