"""Who says which answer is better: rules that a program can check, and models."""
