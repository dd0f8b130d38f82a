"""Bodies of requests, received into files within limits of bytes and seconds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from starlette.requests import Request

from dcae.serve.service.errors import Refusal, too_many_bytes
from dcae.serve.service.settings import Settings


class Gone(Exception):
    """The client has hung up."""


async def receive(request: Request, path: Path, settings: Settings) -> int:
    """Write a request's body to a file as it comes.

    Returns:
        its bytes.

    Raises:
        Refusal: 413, it is too long; 408, it takes too long to come; 400, it is empty.
        Gone: the client has hung up.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_bytes:
        raise too_many_bytes(settings.max_bytes)
    size, until = 0, time.monotonic() + settings.body_seconds
    with path.open("wb") as file:
        more = True
        while more:
            patience = min(settings.idle_seconds, until - time.monotonic())
            try:
                if patience <= 0:  # parts that come one by one, each at once, would be waited for to the last
                    raise asyncio.TimeoutError
                message = await asyncio.wait_for(request.receive(), patience)
            except asyncio.TimeoutError:
                limit = f"{settings.idle_seconds:g} s for a part, {settings.body_seconds:g} s for the whole"
                raise Refusal(408, "slow", f"the body came too slowly; the limits are {limit}") from None
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            size += len(part)
            if size > settings.max_bytes:
                raise too_many_bytes(settings.max_bytes)
            file.write(part)
            more = message.get("more_body", False)
    if not size:
        raise Refusal(400, "empty", "the body is empty; send the file's bytes as the request's body")
    return size


async def hung_up(request: Request) -> None:
    """Wait until the client of a request whose body has been received hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
