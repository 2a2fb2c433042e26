"""`GET /openapi.json` says what there is: held to the routes, and by schemathesis to what a server really answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from progress_stream import __version__, jobs
from progress_stream.api.app import routes
from progress_stream.api.openapi import document
from progress_stream.settings import Settings
from tests.support.server import Site

ROOT = Path(__file__).parents[2]
#: More of them, and others, find what a change has broken elsewhere: both are for whoever looks for it.
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "20")
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
#: What a worker announces: all that can be asked of it is in the schema.
SCHEMA = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}, "note": {"type": "string"}},
    "required": [],
    "additionalProperties": False,
}
#: One in each state that a request may meet it in.
JOBS = ("queued-1", "running-1", "ended-1", "filed-1", "failed-1")
#: A stream ends when its job does, and schemathesis waits for the end: `test_stream.py` and its like hold these.
STREAMS = ("/jobs/events", "/jobs/{id}/events")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A thousand ids, which a ticket may name, need more than other tests allow."""
    return settings.model_copy(update={"body_bytes": 1024 * 1024})


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


@pytest.mark.contract("GET /openapi.json")
def test_the_document_is_openapi(site: Site) -> None:
    """By the specification's own schema; every reference leads somewhere. For anybody, as its version says."""
    answer = httpx.get(f"{site.url}/openapi.json")

    assert (200, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    assert ("3.1.0", __version__) == (answer.json()["openapi"], answer.json()["info"]["version"])
    OpenAPIV31SpecValidator(answer.json()).validate()


def test_the_document_is_not_sent_twice(site: Site) -> None:
    """An ETag, and 304."""
    tag = httpx.get(f"{site.url}/openapi.json").headers["ETag"]

    assert 304 == httpx.get(f"{site.url}/openapi.json", headers={"If-None-Match": tag}).status_code


@pytest.mark.contract("GET /openapi.json")
def test_every_route_and_no_other_is_described() -> None:
    """Under each of its methods; HEAD goes with GET."""
    served = {
        (method.lower(), route.path.replace(":path", ""))
        for route in routes()
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert served == {(method, path) for method, path, _ in operations(document())}


def test_operations_have_names_of_their_own() -> None:
    """Generated clients make functions of them."""
    names = [operation["operationId"] for _, _, operation in operations(document())]

    assert len(names) == len(set(names))


def test_every_part_of_the_document_is_used() -> None:
    """What nothing points at is either forgotten or wrong; three are the data of frames, which the document tells in words."""
    text = json.dumps(document())
    spare = {
        name
        for kind in ("schemas", "parameters", "responses")
        for name in document()["components"][kind]
        if f"#/components/{kind}/{name}" not in text
    }

    assert {"Snapshot"} == spare


def test_the_state_has_every_field() -> None:
    """All required, for one that is not known is null."""
    state = document()["components"]["schemas"]["State"]

    assert list(jobs.FIELDS) == list(state["properties"]) == state["required"]


def test_a_mounted_application_names_its_place() -> None:
    """Clients join the server's address and the path."""
    assert ["/", "/progress"] == [document(root)["servers"][0]["url"] for root in ("", "/progress")]


def test_streams_and_problems_have_their_media_types() -> None:
    """Each form of the stream; and every error is a problem."""
    described = document()
    followed = described["paths"]["/jobs/{id}/events"]["get"]["responses"]["200"]["content"]
    problems = described["components"]["responses"].values()

    assert {"text/event-stream", "application/x-ndjson", "application/json"} == set(followed)
    assert [["application/problem+json"]] * len(problems) == [list(one["content"]) for one in problems]


def narrowed(described: dict[str, Any], cursor: str) -> dict[str, Any]:
    """What the document cannot know of one site: its actors and what they take, its jobs, and a place in its lists."""
    schemas = described["components"]["schemas"]
    for name in ("NewJob", "NewJobForm"):
        schemas[name]["properties"]["actor"] = {"type": "string", "enum": ["personalize"]}
        schemas[name]["properties"]["title"]["format"] = "words"
    schemas["NewJob"]["properties"]["args"] = {
        **SCHEMA,
        "properties": {"note": SCHEMA["properties"]["note"]},  # type: ignore[index]
    }
    schemas["NewJobForm"]["properties"]["note"] = {"type": "string"}
    schemas["NewJobForm"]["additionalProperties"] = False
    parameters = described["components"]["parameters"]
    parameters["id"]["examples"] = {id: {"value": id} for id in (*JOBS, "never")}
    parameters["path"]["examples"] = {"page": {"value": "dashboard/index.html"}}
    parameters["owner"]["schema"]["format"] = "words"
    parameters["cursor"]["schema"] = {"type": "string", "enum": [cursor]}
    return described


def seed(site: Site) -> None:
    site.announce("personalize", SCHEMA, seconds=600)
    _, running, ended, filed, failed = made = [site.job(id, title="März") for id in JOBS]
    for place in (job.header for job in made):
        site.store.send(
            site.store.commands.lists.hint("alice", place.id, place.created_at, place.actor, "queued")
        )
    for job in (running, ended, filed, failed):
        job.start()
    ended.succeed({"rows": 1})
    filed.succeed(file=filed.save("März.csv", "text/csv", b"a,b\n"))
    failed.fail()


def readable(report: str) -> str:
    """Without what a thousand ids do to a line."""
    return "\n".join(line[:600] for line in report.splitlines())


@pytest.mark.slow
@pytest.mark.contract("GET /openapi.json")
def test_schemathesis_finds_nothing(site: Site, tmp_path: Path) -> None:
    """All its checks, on examples, on edges, on right and on wrong input, and along the links from one request to the next."""
    seed(site)
    schema = tmp_path / "openapi.json"
    with site.client() as client:
        cursor = client.get("/jobs?limit=2").json()["next"]
        assert cursor
        schema.write_text(json.dumps(narrowed(client.get("/openapi.json").json(), cursor)))
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(schema), "--url", site.url, "--no-color",
        "--checks", "all", "--mode", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--request-timeout", "10",
        "--continue-on-failure", "--generation-database", "none",
        *(word for path in STREAMS for word in ("--exclude-path", path)),
        "-H", f"Authorization: Bearer {site.token(scopes='jobs:read jobs:write jobs:admin')}",
    ]  # fmt: skip
    hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=110, env={**os.environ, **hooks}
    )

    assert 0 == run.returncode, readable(run.stdout + run.stderr)
    print(run.stdout)
