"""The model: loading, adapters, tree attention, branch log-probs, and the start-up probe."""
