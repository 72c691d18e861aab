"""`palate serve`: OpenAI's chat completions over the sampling engine.

The event loop speaks HTTP (`app`, `chat`, `stream`), one thread computes (`scheduler`), and the
recorder process of `palate capture` stores what was said (`keeping`).
"""
