"""Shares: how many places each address holds, of connections or of requests."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address


class Shares:
    """Places that addresses hold.

    Args:
        most: of one address.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: Counter[str] = Counter()

    def take(self, address: str) -> int:
        """Have an address hold one place more; gives how many it holds then."""
        self._held[owner_of(address)] += 1
        return self._held[owner_of(address)]

    def leave(self, address: str) -> None:
        """Have it hold one place less."""
        self._held[owner_of(address)] -= 1
        self._held += Counter()  # forgets those that hold none


def owner_of(address: str) -> str:
    """Who has an address: of IPv6, a subscriber has 2**64 of them, which begin alike."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped) if found.ipv4_mapped else f"{int(found) >> 64:x}::"
