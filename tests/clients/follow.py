"""Follows a stream with one of PyPI's clients, and tells each event as a line of JSON: `python -m tests.clients.follow CLIENT URL`.

TOKEN in the environment is the bearer token. None of the three comes back by itself after a cut in the middle of an answer:
the loops are what their documentation leaves to the user.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import httpx
import httpx_sse
import sseclient
from aiohttp_sse_client2 import client as aiohttp_sse

#: Between two tries, whatever the server asks for: a test has less time than a person.
PAUSE_SECONDS = 0.5


def tell(id: str | None, event: str | None, data: str) -> None:
    print(json.dumps([id or "", event or "message", data]), flush=True)


def headers_from(last: str) -> dict[str, str]:
    sent = {"Authorization": f"Bearer {os.environ['TOKEN']}", "Accept": "text/event-stream"}
    return sent | ({"Last-Event-ID": last} if last else {})


def follow_httpx_sse(url: str) -> None:
    """204 ends it."""
    last = ""
    while True:
        with (
            suppress(httpx.TransportError, httpx_sse.SSEError),
            httpx.Client(timeout=20) as client,
            httpx_sse.connect_sse(client, "GET", url, headers=headers_from(last)) as source,
        ):
            if source.response.status_code == 204:
                return
            for sse in source.iter_sse():
                tell(sse.id, sse.event, sse.data)
                last = sse.id
        time.sleep(PAUSE_SECONDS)


def follow_sseclient_py(url: str) -> None:
    """204 ends it. The package reads bytes of any response; httpx's are among those its documentation names."""
    last = ""
    while True:
        with (
            suppress(httpx.TransportError),
            httpx.stream("GET", url, headers=headers_from(last), timeout=20) as response,
        ):
            if response.status_code == 204:
                return
            if response.status_code == 200:
                for event in sseclient.SSEClient(response.iter_bytes()).events():
                    tell(event.id, event.event, event.data)
                    last = event.id or last
        time.sleep(PAUSE_SECONDS)


def follow_aiohttp_sse_client2(url: str) -> None:
    """204 comes as an error after it has given up: its user stops at the end of the job instead."""
    asyncio.run(_follow_aiohttp(url))


async def _follow_aiohttp(url: str) -> None:
    last = ""
    # What it logs beside the error that it raises.
    logging.getLogger("aiohttp_sse_client2").setLevel(logging.CRITICAL)
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with aiohttp_sse.EventSource(
                    url, session=session, headers=headers_from(last)
                ) as source:
                    async for event in source:
                        tell(event.last_event_id, event.type, event.data)
                        last = event.last_event_id
                        if event.type in ("succeeded", "failed", "cancelled"):
                            return
            await asyncio.sleep(PAUSE_SECONDS)


CLIENTS: dict[str, Callable[[str], None]] = {
    "httpx-sse": follow_httpx_sse,
    "sseclient-py": follow_sseclient_py,
    "aiohttp-sse-client2": follow_aiohttp_sse_client2,
}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[2])
