"""Capture: a proxy in front of a provider that keeps what passes, and feedback on it.

Two processes. The proxy (`serve`, `proxy`, `upstream`) passes bytes and does nothing else that
takes time. The recorder (`recorder`, `journal`, `storing`) makes rows of them, writes those to the
spill folder, and stores them. Between the two is a pipe (`link`, `frames`). However busy the
recorder is, and whatever befalls the store, the product's traffic does not wait for it.
"""
