"""The whole HTTP surface as one ASGI application: its addresses, what goes around them, its beginning and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import settings as settings_module
from ..auth.who import Authenticate
from ..errors import ProgressStreamError
from ..settings import Settings
from . import (
    cancel,
    delete,
    envelope,
    follow,
    health,
    listing,
    lookup,
    openapi,
    overview,
    pages,
    parts,
    person,
    problems,
    retry,
    submit,
    tickets,
)
from .operating import admin_app, metrics, streams


async def one_job(request: Request) -> Response:
    """One route for both methods, as `all_jobs` is."""
    return await (delete.delete if request.method == "DELETE" else lookup.state)(request)


async def all_jobs(request: Request) -> Response:
    """One route for both methods: of two, a third method's answer would name the first one's alone as allowed."""
    return await (submit.create if request.method == "POST" else listing.jobs_page)(request)


def routes() -> list[Route]:
    """Every address, in the order in which they are tried."""
    return [
        # Asked for most by far: when many come back at once, a match for each address before it would be felt.
        Route("/jobs/{id}/events", follow.follow),
        Route("/", pages.page),
        Route("/assets/{path:path}", pages.asset),
        Route("/config.json", pages.config),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/actors", submit.actors),
        Route("/openapi.json", openapi.openapi),
        Route("/metrics", metrics),
        Route("/admin/streams", streams),
        Route("/login", person.login),
        Route(person.CALLBACK, person.callback),
        Route("/logout", person.logout, methods=["POST"]),
        Route("/tickets", tickets.create, methods=["POST"]),
        Route("/jobs", all_jobs, methods=["GET", "POST"]),
        # Before the jobs: none of them can be called so.
        Route("/jobs/events", overview.overview),
        Route("/jobs/{id}", one_job, methods=["GET", "DELETE"]),
        Route("/jobs/{id}/cancel", cancel.cancel, methods=["POST"]),
        Route("/jobs/{id}/retry", retry.retry, methods=["POST"]),
        Route("/jobs/{id}/result", lookup.result),
    ]


def create_app(
    settings: Settings | None = None, *, authenticate: Authenticate | None = None, broker: Any | None = None
) -> Starlette:
    """The application; connects to nothing yet. It can be mounted under any path of any ASGI application.

    `authenticate` takes a request and answers who it is (`Who`), or None: the host application's session decides then,
    and no tokens are taken but our tickets. `broker` is the Dramatiq broker that jobs are sent through; without one it is
    made from the settings. Raises InvalidSetting.
    """
    built = parts.build(settings or settings_module.load(), authenticate, broker)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await built.start()
        try:
            yield
        finally:
            await built.stop()

    table = routes()
    app = Starlette(
        routes=table,
        middleware=_around(built, table),
        exception_handlers={ProgressStreamError: problems.response_of, HTTPException: problems.response_of},
        lifespan=lifespan,
    )
    # EventSource follows a redirect, and asks the first address again at each reconnect.
    app.router.redirect_slashes = False
    app.state.parts = built
    # For the server that runs it, which may be any other too.
    app.state.drain = built.drain
    app.state.send_away = built.send_away
    app.state.fault = partial(health.fault_of, built)
    app.state.admin = admin_app(built)
    return app


def _around(built: parts.Parts, table: list[Route]) -> list[Middleware]:
    """From the outside in."""
    around = [Middleware(envelope.Envelope, templates={route.endpoint: route.path for route in table})]
    if built.settings.cors_origins:
        around.append(Middleware(envelope.Cors, **envelope.cors_options(built.settings.cors_origins)))
    return [*around, Middleware(envelope.Faults), Middleware(Begin, parts=built)]


class Begin:
    """The first request begins what the lifespan begins elsewhere: a mounted application's lifespan does not run."""

    def __init__(self, app: ASGIApp, parts: parts.Parts) -> None:
        self.app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._parts.start()
        await self.app(scope, receive, send)
