"""What `palate ui` is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from palate.config import ConfigError
from palate.web.listening import is_loopback

PORT = 8321
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the site looks, who may ask it, and its limits.

    `token` opens it as its owner; `me` is the owner's name on votes. `hosts` are further names
    under which a browser may know this machine. `models` are offered in the arena beside the runs.
    An item is at one person's hand for `lease` minutes. `overlap` is the share of items that two
    people get. A request's body has at most `body` bytes and `patience` seconds to arrive.
    """

    db: str = "palate.db"
    runs: Path = Path("runs")
    host: str = "127.0.0.1"
    port: int = PORT
    token: str = field(default="", repr=False)
    me: str = "owner"
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    guidelines: Path | None = None
    overlap: float = 0.15
    lease: float = 10.0
    max_tokens: int = 512
    body: int = MIB
    patience: float = 20.0

    def __post_init__(self) -> None:
        if len(self.token) < 8:
            raise ConfigError("a token has at least 8 characters; without --token one is drawn")
        if self.guidelines is not None and not self.guidelines.is_file():
            raise ConfigError(f"there are no guidelines at {self.guidelines}")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the site."""
        return is_loopback(self.host)
