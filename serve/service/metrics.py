"""Metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What a service counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("dcae_requests", "Requests answered", ("method", "route", "status"), registry=registry)
        self.accepted = Counter("dcae_jobs_accepted", "Jobs taken on", ("kind",), registry=registry)
        self.jobs = Counter(
            "dcae_jobs",
            "Jobs ended: done, failed or cancelled, and why",
            ("kind", "outcome", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "dcae_work_seconds", "Seconds of work on a job", ("kind",), buckets=_SECONDS, registry=registry
        )
        self.restarts = Counter("dcae_worker_restarts", "Worker processes replaced", ("reason",), registry=registry)
        self.workers = Gauge("dcae_workers", "Worker processes that are ready", registry=registry)
        self.queued = Gauge("dcae_queued", "Jobs that wait for a worker", registry=registry)
        self.running = Gauge("dcae_running", "Jobs that are worked on", registry=registry)
        self.uploads = Gauge("dcae_uploads", "Bodies that are being received", registry=registry)
        self.kept = Gauge("dcae_kept_jobs", "Jobs that have ended and can be asked for", registry=registry)
        self.kept_bytes = Gauge("dcae_kept_bytes", "Bytes of results that are kept", registry=registry)
        self.received = Counter("dcae_received_bytes", "Bytes of bodies received", registry=registry)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
