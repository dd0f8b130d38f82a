"""`dcae serve` under load and faults; the full version, with figures, is tools/serve_load.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from service import TINY, served
from service_load import Load, example

pytest.importorskip("fastapi", reason="needs fastapi, which pip install '.[dev]' brings")
MIB = 1 << 20


@pytest.mark.slow
def test_load_and_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 requests of 16 clients, a tenth of them hostile, and a worker killed: no wrong answer, no hang, bounded
    memory, and nothing left."""
    monkeypatch.setenv("DCAE_MODEL_PATH", str(TINY.parent))
    sizes = (0.1, 0.1, 0.1, 0.4, 1.5, 12.0)
    examples = [example(megapixels, seed, "tiny", "JPEG") for seed, megapixels in enumerate(sizes)]
    linux = sys.platform == "linux"
    limits = "--workers=2", "--queue=8", "--memory=1500MiB", "--keep=20MB", "--body-seconds=5", "--max-seconds=600"
    with served(tmp_path / "service", *limits) as service:
        service.patience = 900.0  # a hang fails, a busy machine does not
        report = Load(service, examples, 200, 16, kill=linux).run()
        assert not report.wrong
        assert report.answers.total() == 200 and report.killed == linux
        counted = service.get("/metrics").data.decode()
        for line in ("dcae_queued 0.0", "dcae_running 0.0", "dcae_uploads 0.0"):
            assert line in counted
        assert not any("Traceback" in line for line in service.log)
        if linux:
            assert 'dcae_worker_restarts_total{reason="died"} 1.0' in counted
            assert report.worker < 1500 * MIB and report.server < 400 * MIB
        kept = sum(path.stat().st_size for path in (tmp_path / "service").rglob("*") if path.is_file())
        assert kept < 20_000_000 + 8 * MIB
    assert not list((tmp_path / "service").glob("dcae-serve-*"))
