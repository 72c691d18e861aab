"""Thin commands over the rooms; each imports what it needs when it runs."""
