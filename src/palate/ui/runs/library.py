"""The runs that are looked at: their metrics, read once and kept for whoever looks next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from palate.ui.runs.metrics import Metrics
from palate.ui.site import Site

KEPT = 32
"""Runs whose columns stay in memory: about 28 MB for one of 100,000 lines."""


class Library:
    """Metrics by run folder; the least recently asked for are let go. Safe from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._metrics: OrderedDict[Path, Metrics] = OrderedDict()

    def metrics(self, folder: Path) -> Metrics:
        """What the run has written so far; `read` brings it up to date."""
        with self._lock:
            found = self._metrics.get(folder)
            if found is None:
                found = self._metrics[folder] = Metrics(folder / "metrics.jsonl")
            self._metrics.move_to_end(folder)
            while len(self._metrics) > self._kept:
                self._metrics.popitem(last=False)
            return found


def library(site: Site) -> Library:
    """The site's own."""
    return site.area("runs.library", lambda _: Library())
