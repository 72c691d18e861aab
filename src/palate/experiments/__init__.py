"""Methods measured where the truth is known."""
