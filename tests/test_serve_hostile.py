"""`dcae serve` asked by strangers: wrong parameters, paths that lead out, hostile pictures and bodies."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import pytest
from service import TINY, Service, flat, picture, refused, waiting_for

import dcae

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/encode?quality=nan", 422, "parameter"),
        ("/encode?quality=inf", 422, "parameter"),
        ("/encode?quality=1e999", 422, "parameter"),
        ("/encode?quality=-1", 422, "parameter"),
        ("/encode?quality=", 422, "parameter"),
        ("/encode?quality=3&quality=x", 422, "parameter"),
        ("/encode?quality=8.5", 422, "bad-option"),
        ("/encode?effort=5", 422, "parameter"),
        ("/encode?effort=1.5", 422, "parameter"),
        ("/encode?effort=99999999999999999999999999", 422, "parameter"),
        ("/encode?target_size=0", 422, "parameter"),
        ("/encode?target_size=1e6", 422, "parameter"),
        (f"/encode?target_size={'9' * 4000}", 422, "parameter"),
        ("/encode?target_bpp=nan", 422, "parameter"),
        ("/encode?target_psnr=-inf", 422, "parameter"),
        ("/encode?model=../../etc/passwd", 422, "parameter"),
        ("/encode?model=tiny.safetensors", 422, "parameter"),
        ("/encode?model=%00", 422, "parameter"),
        ("/encode?model=nothing", 422, "no-model"),
        ("/encode?unknown=1", 422, "parameter"),
        ("/encode?%ff%fe=%ff", 422, "parameter"),
        ("/decode?format=exe", 422, "parameter"),
        ("/decode?background=../x", 422, "parameter"),
        ("/decode", 415, "not-a-picture"),
        ("/upscale?scale=5", 422, "parameter"),
        ("/compare?rival=bpg", 422, "parameter"),
        ("/jobs", 422, "parameter"),
        ("/jobs?kind=web-model", 422, "parameter"),
        ("/jobs?kind=encode&format=png", 422, "parameter"),
        ("/jobs?kind=decode&quality=3", 422, "parameter"),
        ("/nothing", 404, "no-such-address"),
        ("/info", 405, "method"),
    ],
)
def test_wrong_parameters_are_refused(service: Service, path: str, status: int, code: str) -> None:
    refused(service.post(path, picture(16, 16)), status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../service/keys.py",
        "/static/..%2fcli.py",
        "/static/%2e%2e/cli.py",
        "/static//etc/passwd",
        "/web/../cli.py",
        "/web/..%2f..%2fcli.py",
        "/jobs/..%2f..%2fetc/files/passwd",
        "/jobs/../result",
        "/examples/..%2flake.png",
        "/jobs/x/files/%2e%2e%2fbody",
        "/jobs/" + "a" * 5000,
    ],
)
def test_no_path_leads_out(service: Service, path: str) -> None:
    answer = service.get(path)
    assert answer.status == 404 and "error" in answer.json


def test_no_path_leads_out_of_a_job(service: Service) -> None:
    found = service.post("/compare?quality=1&effort=0&rival=webp", picture(32, 32)).json
    folder = found["original"]["url"].rpartition("/")[0]
    assert service.get(f"{folder}/original.png").status == 200
    for name in ("body", "..%2f..%2fbody", "%2e%2e", "original.png%00", "./original.png%2f", "result"):
        answer = service.get(f"{folder}/{name}")
        assert answer.status == 404 and "error" in answer.json


def test_hostile_pictures_are_refused(service: Service) -> None:
    whole = picture()
    encoded = service.post("/encode?effort=0", whole).data
    refused(service.post("/encode", flat(5000, 5000)), 413, "too-many-pixels")
    refused(service.post("/compare", flat(5000, 5000)), 413, "too-many-pixels")
    large = dcae.encode(flat(800, 600), 1, model=TINY, effort=0, fallback=False)
    refused(service.post("/decode", large), 413, "too-many-pixels")
    small = dcae.encode(flat(800, 600), 1, model=TINY, effort=0, fallback=False, scale="1/2")
    refused(service.post("/decode", small), 413, "too-many-pixels")  # by what it is enlarged to
    refused(service.post("/encode", whole[: len(whole) // 2]), 422, "bad-picture")
    refused(service.post("/encode", b"\0" * 5000), 415, "not-a-picture")
    refused(service.post("/encode", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 422, "bad-picture")
    refused(service.post("/decode", encoded[: len(encoded) // 2]), 422, "bad-file")
    refused(service.post("/decode", encoded[:-3] + b"xyz"), 422, "bad-file")


def test_bodies_have_limits(service: Service) -> None:
    refused(service.post("/encode", b""), 400, "empty")
    refused(service.post("/encode", b"x" * 1_000_001), 413, "too-many-bytes")
    refused(service.post("/encode", (b"x" * 1000 for _ in range(1001))), 413, "too-many-bytes")  # of unknown length
    assert service.post("/encode?effort=0", iter([picture()])).status == 200


def raw(service: Service, sent: bytes) -> bytes:
    """What is answered to bytes, until the server hangs up."""
    found = b""
    with socket.create_connection((service.host, service.port), timeout=60) as client:
        client.sendall(sent)
        while part := client.recv(1 << 16):
            found += part
    return found


def test_slow_senders_are_sent_away(service: Service) -> None:
    found = raw(service, b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    assert found.startswith(b"HTTP/1.1 408") and b'"slow"' in found


def test_a_head_that_does_not_end_is_given_up(service: Service) -> None:
    assert raw(service, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Y: ") == b""


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5",
        b"Content-Length: 99999999999999999999999999",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: x",
        b"Transfer-Encoding: bogus",
    ],
)
def test_wrong_lengths_are_refused(service: Service, head: bytes) -> None:
    found = raw(service, b"POST /encode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + head + b"\r\n\r\nabc")
    assert found.split(b" ")[1] in (b"400", b"408", b"413", b"501") and b"Traceback" not in found


def test_a_body_that_ends_early_leaves_nothing(service: Service) -> None:
    with socket.create_connection((service.host, service.port)) as client:
        client.sendall(b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        waiting_for(lambda: "dcae_uploads 1.0" in service.get("/metrics").data.decode())
    waiting_for(lambda: "dcae_uploads 0.0" in service.get("/metrics").data.decode())
    bodies = list(service.temporary.glob("*/*/body"))
    assert not bodies


def test_strangers_pages_are_kept_out(service: Service) -> None:
    refused(service.get("/info", Host="evil.example"), 400, "host")
    refused(service.get("/info", Host="127.0.0.1.evil.example:80"), 400, "host")
    for name in ("localhost", "LOCALHOST:1", "[::1]:8000", f"127.0.0.1:{service.port}"):
        assert service.get("/healthz", Host=name).status == 200
    for origin in ("https://evil.example", "null", f"http://localhost:{service.port + 1}", "http://[", "http://"):
        refused(service.post("/encode", picture(), Origin=origin), 403, "origin")
    own = f"http://{service.host}:{service.port}"
    answer = service.post("/encode?effort=0", picture(), Origin=own)
    assert answer.status == 200 and "access-control-allow-origin" not in answer.headers


def test_noise_breaks_nothing(service: Service) -> None:
    """Requests with bytes changed, dropped and repeated: answered or hung up on, never with an error of the service."""
    chance = random.Random(7)
    body = picture(16, 16)
    whole = b"POST /jobs?kind=encode&effort=0&quality=2.5 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    whole += b"Accept: */*\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(150):
        sent = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(sent)), chance.randint(0, 8)
            sent[at : at + length] = chance.choice((b"", chance.randbytes(length), bytes(sent[at : at + length]) * 3))
        with socket.create_connection((service.host, service.port), timeout=1) as client:
            client.sendall(sent)
            found = b""
            with suppress(ConnectionResetError, TimeoutError):  # it may wait for what the length promises
                while part := client.recv(1 << 16):
                    found += part
        assert not found or found.startswith(b"HTTP/1.1 "), (sent, found)
        assert not found.startswith(b"HTTP/1.1 5"), (sent, found)
    waiting_for(lambda: "dcae_queued 0.0" in service.get("/metrics").data.decode())
    assert service.post("/encode?effort=0", body).status == 200
    assert not any("Traceback" in line for line in service.log)
