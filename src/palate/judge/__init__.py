"""Who says which answer is better. Today: rules that a program can check."""
