"""Refusals: answers that say in a sentence what was wrong."""

from __future__ import annotations

from typing import Any

from dcae.errors import one_line


class Refusal(Exception):
    """A request that is not, or was not, done.

    Args:
        status: of HTTP.
        code: short name of the reason, for programs.
        sentence: the reason, for people.
        retry: seconds after which it is worth another try; None if it is not.
    """

    def __init__(self, status: int, code: str, sentence: str, retry: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence, self.retry = status, code, one_line(sentence), retry

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": self.sentence, "code": self.code}

    def headers(self) -> dict[str, str]:
        """The answer's headers beside those of every answer."""
        found = {} if self.retry is None else {"Retry-After": str(self.retry)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def too_many_bytes(limit: int) -> Refusal:
    """The refusal of a body that is too long."""
    return Refusal(413, "too-many-bytes", f"the body has more than the limit of {limit} bytes")


def ending() -> Refusal:
    """The refusal of everything new while the service ends."""
    return Refusal(503, "ending", "the service is being ended and takes no more work; try again later", 10)
