"""`dcae serve`: what /metrics counts is what happened."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from pathlib import Path

import pytest
from helpers import LITE
from service import Service, flat, picture, refused, served, waiting_for

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")
pytest.importorskip("prometheus_client", reason="needs prometheus_client, which pip install '.[dev]' brings")

from prometheus_client.parser import text_string_to_metric_families

from dcae.serve.service.errors import Refusal
from dcae.serve.service.jobs import Jobs
from dcae.serve.service.metrics import Metrics
from dcae.serve.service.pool import Pool
from dcae.serve.service.settings import Settings

LONG = {"model": LITE, "effort": 4}
"""Options with which a picture takes long on any machine."""


def counted(text: str, name: str, *labels: str) -> Counter[str]:
    """The samples of a metric: values of some labels -> sum; without those that are 0."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[" ".join(sample.labels[label] for label in labels)] += int(sample.value)
    return +found


def of(service: Service) -> str:
    """What /metrics says."""
    return service.get("/metrics").data.decode()


def balanced(text: str) -> bool:
    """Whether every job that was taken on is somewhere, once."""
    ended = counted(text, "dcae_jobs_total").total()
    now = counted(text, "dcae_queued").total() + counted(text, "dcae_running").total()
    return counted(text, "dcae_jobs_accepted_total").total() == ended + now


def test_every_job_is_counted_once(tmp_path: Path) -> None:
    with served(tmp_path / "service", "--workers=1", "--queue=2", "--max-pixels=400000") as service:
        _every_outcome(service)
        waiting_for(lambda: not counted(of(service), "dcae_running"))
        text = of(service)
        assert counted(text, "dcae_jobs_accepted_total", "kind") == {
            "encode": 6, "decode": 1, "upscale": 2, "compare": 1, "example": 1,
        }  # fmt: skip
        assert counted(text, "dcae_jobs_total", "kind", "outcome", "code") == {
            "encode done ": 1,
            "encode failed not-a-picture": 1,
            "encode cancelled cancelled": 4,  # on its way, before it, because of a client, and a waiting client's
            "decode failed not-a-picture": 1,
            "upscale done ": 1,
            "upscale failed too-many-pixels": 1,
            "compare done ": 1,
            "example done ": 1,
        }
        assert not counted(text, "dcae_queued") and balanced(text)
        assert counted(text, "dcae_requests_total", "route", "status")["/jobs 429"] == 1
        assert counted(text, "dcae_kept_jobs").total() == 3  # one compared, two that failed


def _every_outcome(service: Service) -> None:
    encoded = service.post("/encode?effort=0", picture(16, 16))
    assert encoded.status == 200 and service.post("/upscale", picture(16, 16)).status == 200
    assert service.post("/compare?rival=jpeg&effort=0", picture(16, 16)).status == 200
    assert service.get("/examples/map.png?width=64").status == 200
    refused(service.post("/upscale?scale=4", flat(400, 300)), 413, "too-many-pixels")
    refused(service.post("/encode", b""), 400, "empty")  # not taken on
    refused(service.post("/encode?quality=x", picture(16, 16)), 422, "parameter")
    for kind in ("encode", "decode"):
        service.until(service.job(kind, b"no such file"), "failed")
    running = service.job("encode", picture(512, 384), **LONG)
    service.until(running, "running")
    waiting = service.job("encode", picture())
    head = f"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture())}\r\n\r\n"
    with socket.create_connection((service.host, service.port)) as client:
        client.sendall(head.encode() + picture())
        waiting_for(lambda: counted(of(service), "dcae_queued").total() == 2)
        text = of(service)
        assert counted(text, "dcae_running").total() == 1 and balanced(text)
        refused(service.post("/jobs?kind=encode", picture()), 429, "queue")  # not taken on
        assert service.ask("DELETE", waiting).status == 204
    waiting_for(lambda: not counted(of(service), "dcae_queued"))
    assert service.ask("DELETE", running).status == 204
    text = of(service)  # at once: a job is not both
    assert not counted(text, "dcae_running") and balanced(text)
    with socket.create_connection((service.host, service.port)) as client:
        body = picture(512, 384)
        head = f"POST /encode?model={LITE}&effort=4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        waiting_for(lambda: counted(of(service), "dcae_running").total() == 1)


def test_jobs_that_no_worker_had_are_counted(tmp_path: Path) -> None:
    async def tried() -> None:
        metrics, jobs = Metrics(), Jobs(Settings())
        pool = Pool(Settings(), metrics)
        first, second, third = (jobs.new("encode", {}) for _ in range(3))
        await pool.submit(first)
        await pool.submit(second)
        pool.cancel(first)
        pool.cancel(first)
        pool.end()
        pool.end()
        with pytest.raises(Refusal):
            await pool.submit(third)
        jobs.close()
        text = metrics.text().decode()
        assert counted(text, "dcae_jobs_accepted_total").total() == 2
        ended = counted(text, "dcae_jobs_total", "outcome", "code")
        assert ended == {"cancelled cancelled": 1, "failed ending": 1}

    asyncio.run(tried())


def test_a_client_that_leaves_while_its_job_is_submitted_leaves_none() -> None:
    """As long as the lock of the queue is held by another one."""

    async def tried() -> None:
        metrics, jobs = Metrics(), Jobs(Settings())
        pool = Pool(Settings(), metrics)
        async with pool._wake:
            submitting = asyncio.create_task(pool.submit(jobs.new("encode", {})))
            await asyncio.sleep(0)
            submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        jobs.close()
        assert not pool.waiting and not counted(metrics.text().decode(), "dcae_jobs_accepted_total")

    asyncio.run(tried())
