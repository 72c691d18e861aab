"""Our losses and TRL's on the same token log-probs."""
