"""Host applications with progress_stream under a prefix, written as their documentation would; served by name as factories."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from progress_stream import create_app

PREFIX = "/tools/progress"


def fastapi() -> FastAPI:
    """With its lifespan, so that what was opened is closed in order."""
    progress = create_app()
    app = FastAPI(lifespan=progress.router.lifespan_context)

    @app.get("/own")
    async def own() -> str:
        return "the host's"

    app.mount(PREFIX, progress)
    return app


def starlette() -> Starlette:
    """As little as there can be: nobody runs a mounted application's lifespan."""
    return Starlette(routes=[Route("/own", _own), Mount(PREFIX, create_app())])


async def _own(_: Request) -> PlainTextResponse:
    return PlainTextResponse("the host's")


def _django_own(_: HttpRequest) -> HttpResponse:
    return HttpResponse("the host's")


urlpatterns = [path("own", _django_own)]


def django_asgi() -> Any:
    """Django's `asgi.py`: its routes are not ASGI's, so one that is decides between the two."""
    django_settings.configure(
        SECRET_KEY="only for tests",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.gzip.GZipMiddleware",
            "django.middleware.common.CommonMiddleware",
        ],
    )
    django.setup()
    return Starlette(routes=[Mount(PREFIX, create_app()), Mount("/", get_asgi_application())])
