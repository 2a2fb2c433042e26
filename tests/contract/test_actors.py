"""`GET /actors`."""

import pytest

from tests.support.server import Site


@pytest.mark.contract("GET /actors")
def test_announced_actors_are_listed_with_name_title_and_schema(site: Site) -> None:
    """All that a form needs, and nothing of where a worker runs."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    site.announce("count", schema)

    with site.client() as client:
        answer = client.get("/actors")

    assert 200 == answer.status_code
    assert {"actors": [{"name": "count", "title": None, "schema": schema}]} == answer.json()


def test_none_announced_is_an_empty_list(site: Site) -> None:
    """No worker is no error."""
    with site.client() as client:
        assert {"actors": []} == client.get("/actors").json()


def test_either_scope_may_list_them(site: Site) -> None:
    """Who may submit must know what; who may read may look."""
    for scope in ("jobs:read", "jobs:write"):
        with site.client(scopes=scope) as client:
            assert 200 == client.get("/actors").status_code
