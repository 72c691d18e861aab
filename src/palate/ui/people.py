"""Who asks: the owner, and annotators, each with a link of their own.

Links and sessions are derived from the owner's token by HMAC-SHA256, so that nothing is kept: they
hold for as long as the token does, and another token ends all of them.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlencode

_NAME = re.compile(r"[\w][\w .@-]{0,39}", re.ASCII)
_SESSION = re.compile(r"(?P<name>[0-9a-f]+)\.(?P<sign>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. The owner sees everything; an annotator labels and votes."""

    name: str
    owner: bool


class People:
    """Knows people by their token, by their session, and gives them links."""

    def __init__(self, token: str, owner: str) -> None:
        self._secret = token.encode()
        self.owner = Person(checked_name(owner), owner=True)

    def link(self, base: str, name: str | None = None, path: str = "/") -> str:
        """The link that opens the site for an annotator, or for the owner.

        Raises `ValueError` for a name that cannot be one, or that is the owner's.
        """
        if name is None:
            return f"{base}{path}?{urlencode({'token': self._secret.decode()})}"
        if checked_name(name) == self.owner.name:
            raise ValueError(f"{name} is your own name: an annotator needs another")
        return f"{base}{path}?{urlencode({'name': name, 'token': self._sign('link', name)[:32]})}"

    def by_token(self, token: str, name: str | None = None) -> Person | None:
        """Who has this token: the owner's, or with a name the annotator's."""
        if name is None:
            return self.owner if _same(token, self._secret.decode()) else None
        known = _NAME.fullmatch(name) is not None and name != self.owner.name
        wanted = self._sign("link", name)[:32]
        return Person(name, owner=False) if _same(token, wanted) and known else None

    def session(self, person: Person) -> str:
        """What a person's cookie holds."""
        name = ("o:" if person.owner else "a:") + person.name
        return f"{name.encode().hex()}.{self._sign('session', name)}"

    def by_session(self, cookie: str) -> Person | None:
        """Whose cookie it is."""
        found = _SESSION.fullmatch(cookie)
        if found is None:
            return None
        try:
            name = bytes.fromhex(found["name"]).decode()
        except ValueError:
            return None
        if not _same(found["sign"], self._sign("session", name)):
            return None
        return Person(name[2:], owner=name.startswith("o:"))

    def form_token(self, person: Person) -> str:
        """What a page of this person's sends back with each change (against forged requests)."""
        return self._sign("form", self.session(person))

    def is_form_token(self, person: Person, given: str) -> bool:
        """Whether a page of this person's sent it."""
        return _same(given, self.form_token(person))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), sha256).hexdigest()


def checked_name(name: str) -> str:
    """The name, if an annotator can have it; `ValueError` otherwise."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'{name:.40}' cannot be an annotator's name: up to 40 letters, digits, spaces, . @ - _"
        )
    return name


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
