"""What goes wrong with a judge as a whole; a single answer's trouble is a `failure` instead."""

from __future__ import annotations


class JudgeStopped(ValueError):
    """A judge that cannot go on: its server is away, the key is refused, a limit is reached.

    One line with cause and cure. What it said before stays valid.
    """
