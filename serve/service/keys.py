"""Keys: who may ask, and how often.

A key has 256 random bits, so that nobody can try candidates, however fast the hash is: one SHA-256 hides it as well as
a slow hash would, and a slow one would let strangers keep the service busy with wrong keys.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from dcae.errors import OptionError
from dcae.serve.service.errors import Refusal
from dcae.serve.service.settings import Rate, parse_rate
from dcae.serve.service.shares import owner_of

_CLIENTS = 10_000
"""Whose requests are counted at most."""


@dataclass(frozen=True)
class Key:
    """A line of the file of keys."""

    name: str
    digest: str
    """SHA-256 of the key, in hexadecimal."""
    rate: Rate | None
    """None: that of the service."""


def new_key(name: str) -> tuple[str, str]:
    """A new key, and the line about it for the file of keys.

    Raises:
        OptionError: a name of other characters than letters, digits, "-", "_" and ".".
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise OptionError(f"{name!r:.80} is no name of a key; use letters, digits, - _ and .")
    key = f"dcae-{secrets.token_urlsafe(32)}"
    return key, f"{name} {_digest(key)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file: lines `NAME SHA256 [RATE]`, and such that are empty or begin with #.

    Raises:
        OptionError: it cannot be read, has no key, or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    keys = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found = re.fullmatch(r"\s*(\S+)\s+([0-9a-fA-F]{64})(?:\s+(\S+))?\s*", line)
            if found is None:
                raise OptionError(f"{path}: line {number} is not NAME SHA256 [RATE]; dcae serve --new-key makes one")
            keys.append(Key(found[1], found[2].lower(), parse_rate(found[3]) if found[3] else None))
    if not keys:
        raise OptionError(f"{path}: no key in it; dcae serve --new-key makes one")
    return tuple(keys)


class Gate:
    """Lets requests pass: by their key where there are keys, and no more of one client than its rate.

    Args:
        keys: None where everybody may ask.
        rate: of a client whose key has none of its own.
    """

    def __init__(self, keys: tuple[Key, ...] | None, rate: Rate | None) -> None:
        self.keys, self.rate = keys, rate
        self._left: dict[str, tuple[float, float]] = {}
        """Client -> how many requests it had left, and when."""

    def key_of(self, authorization: str) -> Key | None:
        """The key of a header `Authorization`; None where there are no keys.

        Raises:
            Refusal: 401, none of ours.
        """
        if self.keys is None:
            return None
        kind, _, given = authorization.partition(" ")
        digest, found = _digest(given.strip()), None
        for key in self.keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        if kind.lower() != "bearer" or found is None:
            raise Refusal(401, "no-key", "this service needs a key: send the header 'Authorization: Bearer KEY'")
        return found

    def has_key(self, authorization: str) -> bool:
        """Whether a header `Authorization` has one of the keys that there are."""
        try:
            return self.key_of(authorization) is not None
        except Refusal:
            return False

    def count(self, client: str, key: Key | None) -> None:
        """Count a request of a client, whose key is known if there are keys.

        Raises:
            Refusal: 429, too many.
        """
        rate = self.rate if key is None or key.rate is None else key.rate
        if rate is None:
            return
        name, now = f"key {key.name}" if key else owner_of(client), time.monotonic()
        left, since = self._left.get(name, (float(rate.count), now))
        left = min(rate.count, left + (now - since) * rate.count / rate.seconds)
        if left < 1:
            wait = math.ceil((1 - left) * rate.seconds / rate.count)
            raise Refusal(429, "rate", f"more than {rate.count} requests in {rate.seconds:g} s; wait a little", wait)
        self._left.pop(name, None)
        self._left[name] = left - 1, now
        if len(self._left) > _CLIENTS:  # the one that was silent longest
            del self._left[next(iter(self._left))]
