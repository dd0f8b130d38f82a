"""`dcae serve`: every status of the contract, from a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import LITE
from service import TINY, Service, flat, picture, pixels_of, refused, waiting_for

import dcae
from dcae.cli import main

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")
pytest.importorskip("uvicorn", reason="needs uvicorn, which pip install '.[dev]' brings")
pytest.importorskip("prometheus_client", reason="needs prometheus_client, which pip install '.[dev]' brings")

LINUX = sys.platform == "linux"
LONG = f"model={LITE}&effort=4"
"""Options with which a picture takes long on any machine."""


@pytest.fixture(scope="module")
def description(service: Service) -> dict[str, Any]:
    """What the service says of its API."""
    found: dict[str, Any] = service.get("/openapi.json").json
    return found


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
    expected = np.asarray(dcae.decode(encoded.data, model=TINY))
    assert np.array_equal(pixels_of(decoded.data), expected)
    other = service.post("/decode?format=webp&picture_quality=80", encoded.data)
    assert "PNG has no quality" in refused(
        service.post("/decode?format=png&picture_quality=80", encoded.data), 422, "bad-option"
    )
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
    addresses = [service.job("encode", picture(512, 384), model=LITE, effort=4)]
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
    assert {"tiny", LITE} <= set(found["models"]) and found["default_model"] == "tiny"
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
    assert "secret-id" not in text
    waiting_for(lambda: "dcae_workers 1.0" in service.get("/metrics").data.decode())


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


def died(service: Service) -> int:
    """How many workers have died."""
    found = re.search(r'restarts_total{reason="died"} (\d+)', service.get("/metrics").data.decode())
    return int(found[1]) if found else 0


@pytest.mark.skipif(not LINUX, reason="looks at processes as Linux shows them")
def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    """Its job is tried once more; one whose worker dies each time is given up."""
    body = picture(512, 384)
    address = service.job("encode", body, model=LITE, effort=4)
    before = died(service)
    for more in (1, 2):
        service.until(address, "running")
        [worker] = service.workers()
        os.kill(worker, signal.SIGKILL)
        waiting_for(lambda more=more: died(service) == before + more)
    assert service.until(address, "failed")["code"] == "worker"
    answer = service.get(f"{address}/result")
    refused(answer, 503, "worker")
    assert "retry-after" in answer.headers
    assert service.post("/encode?effort=0", picture()).status == 200
    [worker] = service.workers()
    os.kill(worker, signal.SIGKILL)  # idle
    assert service.post("/encode?effort=0", picture()).status == 200


def test_what_is_missing_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcae.extras.installed", lambda package: package != "uvicorn")
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 1
    assert result.output == "dcae: dcae serve needs uvicorn, which is not installed: pip install 'dcae[serve]'\n"


def test_a_port_that_is_taken_is_said_in_a_line(service: Service) -> None:
    result = CliRunner().invoke(main, ["serve", "--port", str(service.port)])
    assert result.exit_code == 1 and result.output.count("\n") == 1 and str(service.port) in result.output
