"""Arena: two models answer the same prompt side by side, and a person says which did better."""
