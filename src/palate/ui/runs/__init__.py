"""Watching runs: what their folders say, live, and several laid over each other."""
