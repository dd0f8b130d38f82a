"""`dcae serve`: every status of the contract, from a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from service import Answer, Service, flat, picture, pixels_of, served

import dcae
from dcae.cli import main

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")
pytest.importorskip("uvicorn", reason="needs uvicorn, which pip install '.[dev]' brings")
pytest.importorskip("prometheus_client", reason="needs prometheus_client, which pip install '.[dev]' brings")

LINUX = sys.platform == "linux"
LONG = "model=lite-1&effort=4"
"""Options with which a picture takes long on any machine."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits."""
    folder = tmp_path_factory.mktemp("service")
    limits = "--max-bytes=1000000", "--max-pixels=400000", "--body-seconds=2", "--queue=2", "--workers=1"
    with served(folder, *limits) as found:
        yield found


@pytest.fixture(scope="module")
def description(service: Service) -> dict[str, Any]:
    """What the service says of its API."""
    found: dict[str, Any] = service.get("/openapi.json").json
    return found


def refused(answer: Answer, status: int, code: str) -> str:
    """The sentence of a refusal, which is checked to be one."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer
    found = answer.json
    assert found.keys() == {"error", "code"} and found["code"] == code, found
    sentence: str = found["error"]
    assert sentence and "\n" not in sentence and "Traceback" not in sentence
    assert not any(part in sentence for part in ("/tmp", "site-packages", ".py", str(Path(__file__).parents[1])))
    return sentence


def test_encodes_and_decodes(service: Service) -> None:
    body = picture()
    encoded = service.post("/encode?quality=3&effort=0", body)
    assert encoded.status == 200 and encoded.headers["content-type"] == "image/x-dcae"
    info = dcae.info(encoded.data)
    assert (info.width, info.height, info.quality) == (96, 64, 3)
    told = {name.removeprefix("x-dcae-"): value for name, value in encoded.headers.items() if "x-dcae-" in name}
    assert told.pop("seconds").replace(".", "").isdigit()
    assert told == {"width": "96", "height": "64", "bpp": f"{info.bpp:.4f}", "quality": "3", "model": "tiny"}
    decoded = service.post("/decode", encoded.data)
    assert decoded.status == 200 and decoded.headers["content-type"] == "image/png"
    expected = np.asarray(dcae.decode(encoded.data, model=Path(__file__).with_name("golden") / "tiny.safetensors"))
    assert np.array_equal(pixels_of(decoded.data), expected)
    other = service.post("/decode?format=webp&picture_quality=80", encoded.data)
    assert other.headers["content-type"] == "image/webp" and other.data[8:12] == b"WEBP"


def test_encodes_to_a_size(service: Service) -> None:
    encoded = service.post("/encode?target_size=900&effort=0", picture(160, 128))
    assert encoded.status == 200 and 0.9 * 900 < len(encoded.data) <= 900
    refused(service.post("/encode?target_size=900&quality=3", picture()), 422, "bad-option")
    assert "out of reach" in refused(service.post("/encode?target_size=9", picture()), 422, "bad-option")


def test_enlarges(service: Service) -> None:
    answer = service.post("/upscale?scale=3", picture(20, 10))
    assert answer.status == 200 and pixels_of(answer.data).shape == (30, 60, 3)
    refused(service.post("/upscale?model=nothing", picture(20, 10)), 422, "no-model")
    # What comes out is what is limited.
    refused(service.post("/upscale?scale=4", flat(200, 200)), 413, "too-many-pixels")


@pytest.mark.parametrize("rival", ["jpeg", "webp"])
def test_compares_at_equal_bytes(service: Service, rival: str) -> None:
    body = picture(192, 176)
    answer = service.post(f"/compare?quality=8&effort=0&rival={rival}", body)
    assert answer.status == 200, answer
    found = answer.json
    assert (found["width"], found["height"]) == (192, 176)
    ours, theirs = found["dcae"], found["rival"]
    assert theirs["fits"] == (theirs["bytes"] <= ours["bytes"])
    files = {name: service.get(found[name]["url"]) for name in ("dcae", "rival", "original")}
    assert [len(files["dcae"].data), len(files["rival"].data)] == [ours["bytes"], theirs["bytes"]]
    original = pixels_of(files["original"].data)
    assert np.array_equal(original, pixels_of(body))
    for side in (ours, theirs):
        decoded = pixels_of(service.get(side["png_url"]).data)
        error = np.square(original.astype(float) - decoded).mean()
        assert side["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
        assert side["bpp"] == pytest.approx(8 * side["bytes"] / original.size * 3)
        assert 0 < side["ms_ssim"] < 1
    kinds = [files[name].headers["content-type"] for name in files]
    assert kinds == ["image/x-dcae", f"image/{rival}", "image/png"]
    assert service.get(found["rival"]["url"] + "x").status == 404


def test_a_rival_that_cannot_be_as_small_is_marked(service: Service) -> None:
    found = service.post("/compare?quality=1&effort=0&rival=jpeg", flat(256, 256)).json
    assert not found["rival"]["fits"] and found["rival"]["bytes"] > found["dcae"]["bytes"]
    assert found["rival"]["setting"] == "quality 1"


def test_a_job_from_beginning_to_end(service: Service) -> None:
    body = picture(256, 192)
    address = service.job("encode", body, quality=2, effort=0)
    told = list(service.events(address))
    assert told[-1]["state"] == "done" and told[-1]["progress"] == 1
    assert {status["state"] for status in told} <= {"queued", "running", "done"}
    progress = [status["progress"] for status in told]
    assert progress == sorted(progress)
    assert service.get(address).json == told[-1]
    answer = service.get(f"{address}/result")
    assert answer.status == 200 and answer.data == service.post("/encode?quality=2&effort=0", body).data
    assert service.ask("DELETE", address).status == 204
    for path in (address, f"{address}/result", f"{address}/events", f"{address}/files/original.png"):
        refused(service.get(path), 404, "no-job")
    refused(service.ask("DELETE", address), 404, "no-job")
    assert not any(service.temporary.glob(f"*/{address.rpartition('/')[2]}"))


def test_a_job_that_fails_says_why(service: Service) -> None:
    address = service.job("decode", b"no such file")
    status = service.until(address, "failed")
    assert refused(service.get(f"{address}/result"), 415, "not-a-picture") == status["error"]


def test_a_full_queue_and_cancelled_jobs(service: Service) -> None:
    """One is worked on, two wait, and the next one is sent away; cancelled, they make room at once."""
    addresses = [service.job("encode", picture(512, 384), model="lite-1", effort=4)]
    service.until(addresses[0], "running")
    refused(service.get(f"{addresses[0]}/result"), 409, "not-done")
    addresses += [service.job("encode", picture()) for _ in range(2)]
    assert [service.get(address).json["position"] for address in addresses] == [0, 1, 2]
    answer = service.post("/encode", picture())
    refused(answer, 429, "queue")
    assert int(answer.headers["retry-after"]) >= 1
    assert service.ask("DELETE", addresses[1]).status == 204
    assert service.get(addresses[2]).json["position"] == 1
    assert service.ask("DELETE", addresses[0]).status == 204
    assert service.until(addresses[2], "done")


def test_a_client_that_hangs_up_ends_its_work(service: Service) -> None:
    with socket.create_connection((service.host, service.port)) as client:
        body = picture(512, 384)
        head = f"POST /encode?{LONG} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        waiting_for(lambda: "dcae_running 1.0" in service.get("/metrics").data.decode())
    waiting_for(lambda: "dcae_running 0.0" in service.get("/metrics").data.decode())


def waiting_for(condition: Any) -> None:
    """Wait until something holds."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


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
    for origin in ("https://evil.example", "null", f"http://localhost:{service.port + 1}"):
        refused(service.post("/encode", picture(), Origin=origin), 403, "origin")
    own = f"http://{service.host}:{service.port}"
    answer = service.post("/encode?effort=0", picture(), Origin=own)
    assert answer.status == 200 and "access-control-allow-origin" not in answer.headers


def test_every_answer_has_the_headers_of_safety(service: Service) -> None:
    answers = [
        service.get("/info"),
        service.get("/nothing"),
        service.get("/info", Host="x"),
        service.post("/jobs", b""),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy and "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in answer.headers


def test_says_what_it_offers(service: Service) -> None:
    found = service.get("/info").json
    assert {"tiny", "lite-1"} <= set(found["models"]) and found["default_model"] == "tiny"
    assert found["limits"] == {"bytes": 1_000_000, "pixels": 400_000, "seconds": 300}
    assert {"jpeg", "webp"} <= {rival["name"] for rival in found["rivals"]}
    assert not found["keys_required"]
    example = service.get(found["examples"][0]["url"] + "?width=100")
    assert example.headers["content-type"] == "image/png" and pixels_of(example.data).shape[1] == 128
    refused(service.get(found["examples"][0]["url"] + "?width=63"), 422, "parameter")
    refused(service.get("/examples/nothing.png"), 404, "no-example")


def test_counts(service: Service) -> None:
    service.get("/jobs/secret-id")
    text = service.get("/metrics").data.decode()
    assert 'dcae_requests_total{method="GET",route="/jobs/{identity}",status="404"}' in text
    assert "secret-id" not in text and "dcae_workers 1.0" in text


def test_the_log_has_no_contents(service: Service) -> None:
    service.post("/encode?background=seen", picture(16, 16), Authorization="Bearer hidden", X_Filename="private.png")
    waiting_for(lambda: any("/encode 422" in line for line in service.log))
    text = "".join(service.log)
    assert not any(word in text for word in ("seen", "hidden", "private", "quality"))


def test_the_description_is_true(service: Service, description: dict[str, Any]) -> None:
    """Of parameters and answers; every status that a test here meets on a path is declared for it."""
    paths = description["paths"]
    assert {"/encode", "/decode", "/upscale", "/compare", "/jobs", "/jobs/{identity}/events", "/info"} <= paths.keys()
    given = {parameter["name"]: parameter for parameter in paths["/encode"]["post"]["parameters"]}
    assert given.keys() == {"quality", "effort", "target_size", "target_bpp", "target_psnr", "model"}
    assert not any(parameter["required"] for parameter in given.values())
    assert "application/octet-stream" in paths["/encode"]["post"]["requestBody"]["content"]
    for path in ("/encode", "/decode", "/upscale", "/compare", "/jobs"):
        declared = set(paths[path]["post"]["responses"])
        assert {"400", "401", "403", "408", "413", "415", "422", "429", "500", "503", "504"} < declared
        for status in declared - {"200", "202"}:
            content = paths[path]["post"]["responses"][status]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}
    assert "HTTPValidationError" not in json.dumps(description)


@pytest.mark.skipif(not LINUX, reason="looks at processes as Linux shows them")
def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    """Its job is tried once more; one whose worker dies each time is given up."""
    body = picture(512, 384)
    address = service.job("encode", body, model="lite-1", effort=4)
    for _ in range(2):
        service.until(address, "running")
        [worker] = service.workers()
        os.kill(worker, signal.SIGKILL)
        waiting_for(lambda gone=worker: gone not in service.workers())
    assert service.until(address, "failed")["code"] == "worker"
    answer = service.get(f"{address}/result")
    refused(answer, 503, "worker")
    assert "retry-after" in answer.headers
    assert service.post("/encode?effort=0", picture()).status == 200
    waiting_for(lambda: service.workers())
    os.kill(service.workers()[0], signal.SIGKILL)  # idle
    assert service.post("/encode?effort=0", picture()).status == 200


def test_what_is_missing_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcae.extras.installed", lambda package: package != "uvicorn")
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 1
    assert result.output == "dcae: dcae serve needs uvicorn, which is not installed: pip install 'dcae[serve]'\n"


def test_a_port_that_is_taken_is_said_in_a_line(service: Service) -> None:
    result = CliRunner().invoke(main, ["serve", "--port", str(service.port)])
    assert result.exit_code == 1 and result.output.count("\n") == 1 and str(service.port) in result.output
