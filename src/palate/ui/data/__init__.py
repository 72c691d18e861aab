"""Data: what the store holds, what became of it, search, and one conversation in full."""
