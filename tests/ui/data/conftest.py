"""Both databases, as the tests of the store have them."""

from tests.store.conftest import place, server, store

__all__ = ["place", "server", "store"]
