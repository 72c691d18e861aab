"""Label: what is shown to annotators, in which order, and what they say of it."""
