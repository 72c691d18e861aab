"""Constitutional AI: answers criticised and revised under principles, and compared under them."""
