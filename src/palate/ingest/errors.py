"""What stops an import, as one line with cause and cure."""

from __future__ import annotations


class IngestError(ValueError):
    """A source that cannot be read at all; single bad rows are rejects, not errors."""
