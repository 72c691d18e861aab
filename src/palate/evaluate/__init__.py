"""Proof that the model is better: sampled answers, intervals, and the report page."""
