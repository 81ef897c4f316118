"""Connections that nobody knows yet, and how many of them there may be (auth.md section 5)."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from kora_daemon.server.luggage import LuggageRoom

_PREFIX = 64
"""Bits of an IPv6 address: whoever has one has all that begin with them."""


class Lobby:
    """Where connections wait until they are authenticated; those that are refused wait for their end here, too.

    `most` of all, and `most_per_address`; 0 = any number. Those that come without an address have none to share.
    """

    def __init__(self, most: int = 0, most_per_address: int = 0) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self.luggage_room = LuggageRoom()
        self._waiting: dict[int, str | None] = {}
        self._from: Counter[str] = Counter()

    def allow(self, most: int, most_per_address: int) -> None:
        """Have other limits from now on. May be called from any thread."""
        self.most, self.most_per_address = most, most_per_address

    def limit_reached(self, address: str | None) -> str | None:
        """The name of the limit that keeps another connection from this address out, None when it may come in."""
        if 0 < self.most <= len(self._waiting):
            return "max_unauthenticated"
        if address is not None and 0 < self.most_per_address <= self._from[household(address)]:
            return "max_unauthenticated_per_address"
        return None

    def enter(self, number: int, address: str | None) -> None:
        """Connection `number` waits."""
        home = None if address is None else household(address)
        self._waiting[number] = home
        if home is not None:
            self._from[home] += 1

    def leave(self, number: int) -> None:
        """It does not wait any more."""
        home = self._waiting.pop(number, None)
        if home is not None:
            self._from[home] -= 1
            if not self._from[home]:
                del self._from[home]


@lru_cache(maxsize=1_024)
def household(address: str) -> str:
    """Who shares what is counted or kept by address: an IPv6 address stands for all of its network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> (128 - _PREFIX):x}::/{_PREFIX}"
