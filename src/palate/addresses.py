"""Which servers may be asked: the scheme, the host, and the addresses that its name stands for.

A name is resolved once, its addresses are looked at, and the connection goes to an address that
was looked at: a name that answers otherwise the second time leads nowhere else. What is typed is
meant: an address as such (`127.0.0.1`), `localhost`, a name without a dot (of a container, of a
cluster's service) and names of private zones (`.local`, `.internal`) may be private. A public name
that stands for a private address is refused, as is every address by which clouds tell a machine
its own keys (link-local), whoever names it.

Two variables of the environment are the settings, which no file of somebody else can change:
`PALATE_PRIVATE_HOSTS` has more hosts that may be private, with commas between, and where
`PALATE_ALLOWED_HOSTS` is set, no other host is asked at all.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

PRIVATE_HOSTS, ALLOWED_HOSTS = "PALATE_PRIVATE_HOSTS", "PALATE_ALLOWED_HOSTS"
_ZONES = (
    ".localhost",
    ".local",
    ".internal",
    ".intranet",
    ".private",
    ".corp",
    ".home",
    ".lan",
    ".home.arpa",
    ".svc",
    ".test",
)
"""Ends of names that no public server answers for (RFC 6761, 6762 and 8375, and custom)."""
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# By which clouds answer beside link-local ones: AWS over IPv6, Alibaba, Oracle's older one.
_METADATA = {
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")
}
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # of carriers, and of private networks (tailnets)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotAllowed(ValueError):
    """A server that is not asked: one line with cause and cure."""


def check_url(url: str) -> None:
    """Raise `NotAllowed` for a URL that is asked under no circumstances, without resolving it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise NotAllowed(f"url '{_shown(url)}' is none: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise NotAllowed(f"url '{_shown(url)}' must begin with http:// or https:// and have a host")
    if parts.username or parts.password:
        raise NotAllowed(f"no key belongs into the url '{_shown(url)}': name key_env instead")
    check_host(host)


def check_host(host: str) -> None:
    """Raise `NotAllowed` for a host that is asked under no circumstances."""
    host = _spelled(host)
    only = _listed(ALLOWED_HOSTS)
    if only and host not in only:
        raise NotAllowed(f"{host} is not among the hosts of {ALLOWED_HOSTS}: add it there")
    found = _literal(host)
    if found is None:
        if _NUMERIC.fullmatch(host):
            raise NotAllowed(f"{host} is an address in an unusual form: write it as 127.0.0.1")
        return
    if why := _never(found):
        _refuse(host, str(found), why)


def usable(host: str, addresses: Iterable[str]) -> list[str]:
    """The addresses that a connection to `host` may go to; `NotAllowed` where there is none."""
    host = _spelled(host)
    check_host(host)
    kept, refused = [], ""
    for text in addresses:
        found = ipaddress.ip_address(text.partition("%")[0])
        why = _never(found) or ("" if may_be_private(host) else _private(found))
        if not why or host in _listed(PRIVATE_HOSTS):
            kept.append(text)
        elif not refused:
            refused = f"{found}, {why}"
    if not kept and refused:
        address, _, why = refused.partition(", ")
        _refuse(host, address, why)
    return kept


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host that may be asked; `NotAllowed`, or `OSError` for no answer."""
    check_host(host)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return usable(host, dict.fromkeys(str(one[4][0]) for one in found))


def may_be_private(host: str) -> bool:
    """Whether who typed this host meant one that is not on the internet."""
    host = _spelled(host)
    named = "." not in host or host.endswith(_ZONES) or _literal(host) is not None
    return named or host in _listed(PRIVATE_HOSTS)


def _refuse(host: str, address: str, why: str) -> None:
    if host in _listed(PRIVATE_HOSTS):
        return
    stands = "" if host == address else f" stands for {address}, which"
    raise NotAllowed(
        f"{host}{stands} is {why}: it is not asked; if that is meant, set {PRIVATE_HOSTS}={host}"
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _inner(found: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, if it does."""
    if isinstance(found, ipaddress.IPv4Address):
        return found
    teredo = found.teredo
    inner = found.ipv4_mapped or found.sixtofour or (teredo[1] if teredo else None)
    if inner is None and found in _NAT64:
        inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return inner or found


def _never(found: Address) -> str:
    """Why an address is asked of nobody's own accord; empty where it may be."""
    found = _inner(found)
    if found.is_link_local or found in _METADATA:
        return "a link-local address, by which clouds give keys away"
    if found.is_unspecified or found.is_multicast or (found.is_reserved and not found.is_private):
        return "an address of no server"
    return ""


def _private(found: Address) -> str:
    found = _inner(found)
    shared = isinstance(found, ipaddress.IPv4Address) and found in _SHARED
    return "" if found.is_global and not shared else "a private address"


def _spelled(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _listed(name: str) -> Sequence[str]:
    return [_spelled(one.strip()) for one in os.environ.get(name, "").split(",") if one.strip()]


def _shown(url: str) -> str:
    """A URL for an error, without the key that may be in it."""
    return re.sub(r"//[^/@]*@", "//***@", url.partition("?")[0])[:200]
