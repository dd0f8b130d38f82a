"""`dcae serve`: no address has all connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from click.testing import CliRunner
from service import Answer, Service, refused, served, waiting_for, whole

from dcae.cli import main
from dcae.serve.service.errors import Refusal
from dcae.serve.service.keys import Gate
from dcae.serve.service.settings import Rate
from dcae.serve.service.shares import Shares

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")

SHARE = 3
UPLOAD = b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
"""A request that its body does not follow."""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of keys, and its key."""
    found, line = CliRunner().invoke(main, ["serve", "--new-key", "one"]).stdout.splitlines()
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(line)
    return path, found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, key: tuple[Path, str]) -> Iterator[Service]:
    """A service with keys, where an address has three connections."""
    limits = "--workers=1", f"--connections={SHARE}", f"--keys={key[0]}"
    with served(tmp_path_factory.mktemp("service"), *limits) as found:
        waiting_for(lambda: found.get("/healthz").json["workers"])
        yield found


def connected(service: Service, sent: bytes = b"") -> socket.socket:
    """A connection that stays, on which something has been sent."""
    client = socket.create_connection((service.host, service.port), timeout=60)
    client.sendall(sent)
    return client


def asked_from(service: Service, address: str) -> Answer:
    """The answer to a client of another address of this machine."""
    client = HTTPConnection(service.host, service.port, timeout=60, source_address=(address, 0))
    try:
        client.request("GET", "/info")
        return whole(client.getresponse())
    finally:
        client.close()


def test_an_address_has_its_share_of_connections(service: Service, key: tuple[Path, str]) -> None:
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        pytest.skip("this machine has one loopback address")
    with ExitStack() as held:
        for _ in range(SHARE):
            held.enter_context(connected(service))
        waiting_for(lambda: service.get("/info").status == 429)
        answer = service.get("/info")
        assert str(SHARE) in refused(answer, 429, "connections")
        assert int(answer.headers["retry-after"]) >= 1 and answer.headers["connection"] == "close"
        refused(service.post("/encode", b"x" * 100_000), 429, "connections")
        refused(service.get("/info", Authorization="Bearer x"), 429, "connections")
        assert asked_from(service, "127.0.0.2").status == 200
        assert service.get("/info", Authorization=f"Bearer {key[1]}").status == 200
    waiting_for(lambda: service.get("/info").status == 200)


def test_connections_beyond_twice_a_share_are_closed(service: Service) -> None:
    """They would take places of others until the head of their requests has to be there."""
    with ExitStack() as held:
        for _ in range(2 * SHARE):
            held.enter_context(connected(service))
        with connected(service) as client, suppress(ConnectionResetError):
            client.settimeout(5)  # the patience with those that are not closed is 15 s
            assert client.recv(1) == b""


def test_clients_of_a_proxy_have_a_share_each(tmp_path: Path) -> None:
    def begun(address: str) -> bytes:
        return UPLOAD + f"X-Forwarded-For: {address}\r\n\r\n".encode()

    with served(tmp_path / "service", "--workers=1", f"--connections={SHARE}", "--proxy=127.0.0.1") as service:
        with ExitStack() as held:
            for _ in range(SHARE):
                held.enter_context(connected(service, begun("192.0.2.1")))
            uploads = f"dcae_uploads {SHARE}.0"
            waiting_for(lambda: uploads in service.get("/metrics", X_Forwarded_For="192.0.2.9").data.decode())
            refused(service.get("/info", X_Forwarded_For="192.0.2.1"), 429, "connections")
            for _ in range(2 * SHARE):  # the proxy itself may have more than an address
                held.enter_context(connected(service, begun("192.0.2.3")))
            assert service.get("/info", X_Forwarded_For="192.0.2.2").status == 200
        waiting_for(lambda: service.get("/info", X_Forwarded_For="192.0.2.1").status == 200)


def test_shares_are_of_networks() -> None:
    """Whoever has one address of IPv6 has all that begin like it."""
    shares = Shares(1)
    assert [shares.take(address) for address in ("2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1")] == [1, 2, 1]
    mapped = "::ffff:203.0.113.1", "::ffff:198.51.100.7", "203.0.113.1"  # as some proxies tell them
    assert [shares.take(address) for address in mapped] == [1, 1, 2]
    assert [shares.take(address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [1, 1, 2]
    shares.leave("192.0.2.1")
    assert shares.take("192.0.2.1") == 2


def test_rates_are_of_networks() -> None:
    gate = Gate(None, Rate(1, 3600.0))
    for address in ("2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "-"):
        gate.count(address, None)
    for address in ("2001:db8::2", "192.0.2.1"):
        with pytest.raises(Refusal, match="more than 1 requests"):
            gate.count(address, None)
