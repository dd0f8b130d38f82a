"""Routes that code: requests that wait for their answer, and jobs."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from dcae.serve.service.answers import Accepted, Comparison, Error, Status
from dcae.serve.service.errors import Refusal
from dcae.serve.service.jobs import Job
from dcae.serve.service.options import CompareOptions, DecodeOptions, EncodeOptions, JobOptions, UpscaleOptions
from dcae.serve.service.service import Service, result_of
from dcae.serve.service.tasks import Result

router = APIRouter()
_PART = 1 << 18
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}
_WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "an empty or broken body, or a foreign Host"},
    401: {"model": Error, "description": "no key, or none of ours"},
    403: {"model": Error, "description": "a page of another origin"},
    408: {"model": Error, "description": "the body came too slowly"},
    413: {"model": Error, "description": "too many bytes or pixels, or too much memory"},
    415: {"model": Error, "description": "the body is no file of this kind"},
    422: {"model": Error, "description": "damaged, or a parameter that is wrong or cannot be met"},
    429: {"model": Error, "description": "too many requests; Retry-After says when to come again"},
    500: {"model": Error, "description": "an error of the service"},
    503: {"model": Error, "description": "the service ends, or its worker died twice; Retry-After"},
    504: {"model": Error, "description": "more seconds of work than the limit"},
}
_MISSING: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "a foreign Host"},
    404: {"model": Error, "description": "no such job, or no longer"},
}
HEADERS = {
    f"X-DCAE-{name}": {"schema": {"type": "string"}}
    for name in ("Width", "Height", "Bpp", "Quality", "Model", "Seconds")
}
"""Of answers about a `.dcae` file."""


def _answers(*types: str, headers: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    content = dict.fromkeys(types, _BINARY)
    return {200: {"content": content, "headers": headers or {}, "description": "the file"}} | _WRONG


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    found: Service = request.app.state.service
    return found


async def _coded(request: Request, kind: str, options: dict[str, Any]) -> Response:
    """The file that comes of a request, which is removed once it has been sent."""
    service = service_of(request)
    job = await service.take(request, kind, options)
    result = await service.finished(request, job)
    try:
        return _file(job, result)
    finally:
        service.jobs.remove(job)


def _file(job: Job, result: Result) -> Response:
    if result.value is not None:
        return JSONResponse(result.value)
    return sent(job.folder / result.name, result.media_type, result.headers)


def sent(path: Path, media_type: str, headers: dict[str, str]) -> Response:
    """A file of a job, opened at once: it is sent whole even if the job is removed meanwhile.

    Raises:
        Refusal: 404, it has been removed.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise _no_job() from error
    size = os.fstat(file.fileno()).st_size

    def parts() -> Iterator[bytes]:
        with file:
            while part := file.read(_PART):
                yield part

    return StreamingResponse(parts(), media_type=media_type, headers=headers | {"Content-Length": str(size)})


def _no_job() -> Refusal:
    return Refusal(404, "no-job", "there is no such job, or no longer; results are kept for a limited time")


@router.post("/encode", responses=_answers("image/x-dcae", headers=HEADERS), openapi_extra=_BODY)
async def encode(request: Request, options: Annotated[EncodeOptions, Query()]) -> Response:
    """Compress the picture in the body to a .dcae file."""
    return await _coded(request, "encode", options.model_dump())


@router.post(
    "/decode", responses=_answers("image/png", "image/jpeg", "image/webp", headers=HEADERS), openapi_extra=_BODY
)
async def decode(request: Request, options: Annotated[DecodeOptions, Query()]) -> Response:
    """Decompress the .dcae file in the body to a picture."""
    return await _coded(request, "decode", options.model_dump())


@router.post("/upscale", responses=_answers("image/png"), openapi_extra=_BODY)
async def upscale(request: Request, options: Annotated[UpscaleOptions, Query()]) -> Response:
    """Enlarge the picture in the body, to a PNG."""
    return await _coded(request, "upscale", options.model_dump())


@router.post("/compare", responses=_WRONG, openapi_extra=_BODY)
async def compare(request: Request, options: Annotated[CompareOptions, Query()]) -> Comparison:
    """Code the picture in the body, and by a rival to at most as many bytes; where the files are, and how good.

    The files stay as long as those of a job."""
    service = service_of(request)
    job = await service.take(request, "compare", options.model_dump())
    return Comparison(**(await service.finished(request, job)).value)


@router.post("/jobs", status_code=202, responses=_WRONG, openapi_extra=_BODY)
async def new_job(request: Request, options: Annotated[JobOptions, Query()]) -> Accepted:
    """Take on what takes long: the answer comes once the body is there, and says where to ask for more."""
    chosen = options.chosen()
    job = await service_of(request).take(request, options.kind, chosen)
    at = f"/jobs/{job.id}"
    return Accepted(id=job.id, status_url=at, events_url=f"{at}/events", result_url=f"{at}/result")


def _job(request: Request, identity: str) -> Job:
    job = service_of(request).jobs.get(identity)
    if job is None:
        raise _no_job()
    return job


@router.get("/jobs/{identity}", responses=_MISSING)
async def status(request: Request, identity: str) -> Status:
    """How far a job is. Whoever knows its id may ask, without a key."""
    return Status(**_job(request, identity).as_dict())


@router.delete("/jobs/{identity}", status_code=204, responses=_MISSING)
async def cancel(request: Request, identity: str) -> None:
    """Cancel a job, or remove what came of it."""
    service_of(request).forget(_job(request, identity))


@router.get(
    "/jobs/{identity}/events",
    responses=_MISSING | {200: {"content": {"text/event-stream": {}}, "description": "its status when it changes"}},
)
async def events(request: Request, identity: str) -> Response:
    """A job's status as server-sent events, to its end."""
    job = _job(request, identity)

    async def lines() -> AsyncIterator[str]:
        async for state in job.follow():
            yield f"data: {json.dumps(state)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get(
    "/jobs/{identity}/result",
    responses={409: {"model": Error, "description": "not done yet, or cancelled"}} | _MISSING | _answers("*/*"),
)
async def result(request: Request, identity: str) -> Response:
    """What came of a job: a file, or JSON of a comparison; or why nothing came, with the status that `POST /encode`
    and its like have for that."""
    job = _job(request, identity)
    if job.ended is None:
        raise Refusal(409, "not-done", f"the job is {job.state}; its events say when it is done")
    return _file(job, result_of(job))


@router.get("/jobs/{identity}/files/{name}", responses=_MISSING | _answers("*/*"))
async def file(request: Request, identity: str, name: str) -> Response:
    """A file that the result of a comparison names."""
    job = _job(request, identity)
    kind = job.result.files.get(name) if job.result is not None else None
    if kind is None:
        raise Refusal(404, "no-file", "the job has no such file")
    return sent(job.folder / name, kind, {"Cache-Control": "private, max-age=600"})
