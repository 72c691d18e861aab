"""What stops an import, as one line with cause and cure."""

from __future__ import annotations

from palate.records import Reject


class IngestError(ValueError):
    """A source of which nothing can be used; single bad rows are rejects, not errors.

    `rejects` are the rows that were refused on the way, where that is known.
    """

    rejects: tuple[Reject, ...] = ()
