"""The application: routes, errors, and what runs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from dcae import __version__
from dcae.serve.service import pages, routes
from dcae.serve.service.bodies import Gone
from dcae.serve.service.errors import Refusal
from dcae.serve.service.service import Service
from dcae.serve.service.settings import Settings

_CODES = {404: "no-such-address", 405: "method"}
_SENTENCES = {404: "there is nothing at this address", 405: "this address does not take this method"}


def make_app(settings: Settings) -> FastAPI:
    """The application of a service, with `state.service`.

    Raises:
        OptionError: settings that cannot be used.
    """
    app = FastAPI(
        title="DCAE", version=__version__, docs_url=None, redoc_url=None, lifespan=_life,
        description="Learned image codec. Bodies are files as they are; every refusal is a sentence.",
    )  # fmt: skip
    app.state.service = Service(settings)
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    app.include_router(routes.router)
    app.include_router(pages.router)
    if pages.PAGE.is_dir():
        app.mount("/static", StaticFiles(directory=pages.PAGE))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(RequestValidationError, _mistaken)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(Exception, _broken)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=[*routes.HEADERS, "Retry-After"],
        )  # fmt: skip
    return app


def described(app: FastAPI) -> dict[str, Any]:
    """The description (OpenAPI) of an application, without the answers to mistakes that FastAPI has by itself: ours are
    others, and are declared."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = found["components"]["schemas"]
        for path in found["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = found
    return app.openapi_schema


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.pool.start()
    tidying = asyncio.create_task(service.tidy())
    try:
        yield
    finally:
        tidying.cancel()
        with suppress(asyncio.CancelledError):
            await tidying
        await service.pool.close()


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body(), error.status, error.headers())


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # which nobody reads, but the log


def _mistaken(request: Request, error: Exception) -> Response:
    """Parameters that are wrong: the first of them, in a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])[:60] if first.get("loc") else "the request"
    return _refused(request, Refusal(422, "parameter", f"{name}: {first['msg']}"))


def _other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "refused")
    answer = Refusal(error.status_code, code, _SENTENCES.get(error.status_code, str(error.detail)))
    return JSONResponse(answer.body(), error.status_code, error.headers)


def _broken(request: Request, error: Exception) -> Response:
    return _refused(request, Refusal(500, "internal", "an error of the service, please report it"))
