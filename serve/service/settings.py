"""What a service is started with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dcae.errors import OptionError

MIB = 1 << 20
_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True)
class Rate:
    """How many requests a client may send."""

    count: int
    """At once, and in each period."""
    seconds: float
    """Length of the period."""


def parse_rate(text: str) -> Rate:
    """The rate that "60/minute" means; periods are second, minute and hour.

    Raises:
        OptionError: it means none.
    """
    found = re.fullmatch(r"(\d{1,9})\s*/\s*(second|minute|hour)", text.strip())
    if found is None or not int(found[1]):
        raise OptionError(f"{text!r:.40} is no rate; write 60/minute, 5/second or 1000/hour")
    return Rate(int(found[1]), _PERIODS[found[2]])


@dataclass(frozen=True)
class Settings:
    """What a service is started with."""

    host: str = "127.0.0.1"
    port: int = 8420
    """0 for any that is free."""
    hosts: tuple[str, ...] = ()
    """Names under which it may be asked; none: those of the loopback address if it listens there, else any."""
    workers: int = 1
    threads: int = 1
    """Of each worker."""
    queue: int = 32
    """Requests that may wait for a worker."""
    rate: Rate | None = None
    """Of each key, or of each address where there are no keys; None: as many as come."""
    keys: Path | None = None
    """File of keys; None: everybody may ask."""
    cors: tuple[str, ...] = ()
    """Origins of pages that may ask, beside the service's own."""
    proxies: str = ""
    """Addresses of proxies that are believed when they say who asks; with commas."""
    max_bytes: int = 64 * MIB
    """Of a request's body."""
    max_pixels: int = 24 * MIB
    """Of a picture, padded to multiples of 64."""
    max_seconds: float = 300.0
    """Of work on a request."""
    memory: int = 3072 * MIB
    """Bytes that a worker may have resident."""
    connections: int = 64
    """Of one address that may be open at once; behind a proxy, requests. Twice as many if those beyond bring keys."""
    uploads: int = 32
    """Bodies that may be under way at once."""
    body_seconds: float = 120.0
    """In which a body has to be there."""
    keep_bytes: int = 1024 * MIB
    """Of results that are kept."""
    keep_jobs: int = 200
    """Whose results are kept."""
    keep_seconds: float = 1800.0
    """For which they are."""
    grace: float = 30.0
    """Seconds that work under way has when the service ends."""
    runtime: Path | None = None
    """Folder `dist` of the npm package onnxruntime-web; None: pages have no decoder of their own."""
    model: str = "lite"
    """Name of the model that encodes unless a request names another."""

    @property
    def idle_seconds(self) -> float:
        """In which the next part of a body has to come."""
        return min(15.0, self.body_seconds)

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which it may be asked; none: any."""
        local = ("127.0.0.1", "localhost", "[::1]")
        own = f"[{self.host}]" if ":" in self.host else self.host.lower()
        if self.hosts or own in local or own.startswith("127."):
            return (*(name.lower() for name in self.hosts), own, *local)
        return ()
