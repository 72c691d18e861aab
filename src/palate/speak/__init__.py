"""Asking a model in words: conversations in, answers out, wherever the model runs."""
