"""A served application and a proxy before it, for clients that are real ones."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.contract.conftest import settings, site
from tests.support.proxy import Proxy
from tests.support.server import Site, serving

__all__ = ["settings", "site"]


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    """Before the site; harmless until it is told otherwise."""
    with Proxy(site.url) as proxy:
        yield proxy


@pytest.fixture
def serve(settings: Settings, redis_client: redis.Redis) -> Iterator[Callable[..., Site]]:
    """A site with settings of the test's own: `serve(stream_seconds=1)`."""
    with ExitStack() as open_sites:

        def make(**changed: Any) -> Site:
            changed_settings = settings.model_copy(update=changed)
            url = open_sites.enter_context(serving(create_app(changed_settings), changed_settings))
            return Site(url, changed_settings, redis_client)

        yield make
