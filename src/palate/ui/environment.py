"""What the processes that the site starts are told of its own environment."""

from __future__ import annotations

import os

_TOKEN = "PALATE_UI_TOKEN"


def environment() -> dict[str, str]:
    """Our own variables, without what opens the site."""
    return {name: value for name, value in os.environ.items() if name != _TOKEN}
