"""What `palate serve` serves, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """A model under a name: weights in `place`, and an adapter to put beside them or none.

    `base_sha256` is the hash of the weights that the adapter was trained on, where it is known.
    """

    name: str
    place: str
    template: Any = "auto"
    trust_remote_code: bool = False
    adapter: Path | None = None
    base_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and places.

    - `rows`: answers that are computed at once; `queue`: requests that may wait for a row.
    - `max_tokens`: the length of an answer where the request sets none.
    - `memory`: bytes for keys and values, None for an eighth of the machine's memory.
    - `max_body`: bytes of a request; `body_timeout`, `send_timeout`, `timeout`: seconds for a body
      to come in, for a client to take what it is sent, and for an answer as a whole.
    - `drain`: seconds that answers get to end once the server is told to stop.
    - `db`: the store, None to keep nothing; `spill` as for `palate capture`, None beside the store.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    rows: int = 32
    queue: int = 256
    max_tokens: int = 1024
    memory: int | None = None
    max_body: int = 8 * 2**20
    body_timeout: float = 30.0
    send_timeout: float = 60.0
    timeout: float = 600.0
    drain: int = 30
    db: str | None = "palate.db"
    spill: str | None = None
    guard: str | None = None
