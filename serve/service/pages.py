"""Routes of the page, of the decoder for browsers, and of what machines ask a service."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse

from dcae import __version__
from dcae.serve.service.answers import Error, Health, Info, Limits
from dcae.serve.service.errors import Refusal
from dcae.serve.service.metrics import MEDIA_TYPE
from dcae.serve.service.offers import everything, web_model_names
from dcae.serve.service.routes import sent, service_of
from dcae.serve.web_folder import MODULES, RUNTIME

router = APIRouter()
PAGE = Path(__file__).parents[1] / "page"
"""Folder of the page."""
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_ANY: dict[int | str, dict[str, Any]] = {400: {"model": Error, "description": "a foreign Host"}}
_ENDING: dict[int | str, dict[str, Any]] = {
    503: {"model": Error, "description": "the service ends, or no process codes"}
}
_KEY: dict[int | str, dict[str, Any]] = {401: {"model": Error, "description": "no key, or none of ours"}}
_DRAWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "the picture"},
    404: {"model": Error, "description": "no such example"},
    422: {"model": Error, "description": "another width"},
    429: {"model": Error, "description": "the queue is full; Retry-After"},
}
_offers = lru_cache(maxsize=1)(everything)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    if not (PAGE / "index.html").is_file():
        raise Refusal(404, "no-page", "this install has no page; the API is described at /openapi.json")
    return FileResponse(PAGE / "index.html")


@router.get("/healthz", responses=_ANY | _ENDING)
async def healthy(request: Request) -> Health:
    """Whether the service takes work; 503 while it ends, or no process that codes can be started."""
    service = service_of(request)
    if service.pool.ending:
        raise Refusal(503, "ending", "the service is being ended")
    if service.pool.broken:
        raise Refusal(503, "worker", "no process that codes can be started", 5)
    return Health(status="ok", workers=service.pool.ready, queued=len(service.pool.waiting))


@router.get("/metrics", response_class=PlainTextResponse, responses=_ANY | _KEY)
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus. Where there are keys, they are asked for."""
    service = service_of(request)
    service.gate.key_of(request.headers.get("authorization", ""))
    return Response(service.metrics.text(), media_type=MEDIA_TYPE)


@router.get("/info", responses=_ANY)
async def info(request: Request) -> Info:
    """What the service offers, and its limits."""
    settings = service_of(request).settings
    offers = await run_in_threadpool(_offers)
    limits = Limits(bytes=settings.max_bytes, pixels=settings.max_pixels, seconds=settings.max_seconds)
    return Info(
        version=__version__, default_model=settings.model, limits=limits, keys_required=settings.keys is not None,
        web_decoder=settings.runtime is not None, **offers,
    )  # fmt: skip


@router.get("/examples/{name}.png", response_class=Response, responses=_ANY | _ENDING | _DRAWN)
async def example(
    request: Request,
    name: str,
    width: Annotated[int, Query(ge=64, le=768, description="rounded up to a multiple of 64")] = 768,
) -> Response:
    """An example picture."""
    if name not in [known["name"] for known in (await run_in_threadpool(_offers))["examples"]]:
        raise Refusal(404, "no-example", "there is no such example; /info names them")
    width = -(-width // 64) * 64  # so that there are not too many, which stay
    job = await service_of(request).made("example", f"{name} {width}", {"name": name, "width": width})
    return sent(job.folder / "result", "image/png", {"Cache-Control": "max-age=86400"})


@router.get("/web/{name}", include_in_schema=False)
async def web(request: Request, name: str) -> Response:
    """A file of what `dcae export-web` writes, for the decoder in the page."""
    service = service_of(request)
    runtime = service.settings.runtime
    if runtime is not None:
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        if name in RUNTIME:
            return FileResponse(runtime / name, media_type=kind)
        if name in {path.name for path in MODULES.glob("*.js")}:
            return FileResponse(MODULES / name, media_type=kind)
        if re.fullmatch(r"[0-9a-f]{16}\.dcaeweb", name):
            model = (await run_in_threadpool(web_model_names)).get(name)
            if model is not None:
                job = await service.made("web-model", name, {"model": model})
                forever = {"Cache-Control": "max-age=31536000, immutable"}
                return sent(job.folder / "result", kind, forever)
    raise Refusal(404, "no-file", "there is no such file")
