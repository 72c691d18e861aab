"""Agreement: who voted what, how far people agree, and what they do not agree about."""
