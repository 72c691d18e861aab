"""Sampling answers from a model in this process."""
