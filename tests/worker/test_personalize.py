"""`personalize` on a real worker: a long file is spread over pieces, and comes out byte for byte as one worker alone writes it."""

import sys
from collections.abc import Iterator
from typing import Any

import dramatiq
import dramatiq.broker
import pytest

from progress_stream.settings import Settings
from progress_stream.store.files import Files
from tests.worker.conftest import Stack
from tests.worker.test_spread import never_back, parts

ROWS = 12_345
TEMPLATE = "Hi {{first_name}}, I saw that {{company|your firm}} grows."


class Program(Stack):
    """A stack on which the actors of `workers` are declared."""

    def __init__(self, settings: Settings, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(settings, broker_url)
        # Whoever imports the program's actors first has them declared on a broker of the environment's.
        monkeypatch.setenv("PROGRESS_STREAM_REDIS_URL", str(settings.redis_url))
        monkeypatch.setattr(dramatiq.broker, "global_broker", None)
        from workers.personalize import join_pieces, personalize, personalize_piece

        self.actors: dict[str, Any] = {}
        for actor in (personalize, personalize_piece, join_pieces):
            options = {
                "actor_name": actor.actor_name,
                "queue_name": "default",
                "priority": 0,
                "options": dict(actor.options),
            }
            copy = dramatiq.Actor(actor.fn, broker=self.broker, **options)
            self.broker.declare_actor(copy)
            self.actors[actor.actor_name] = copy
            monkeypatch.setattr(actor, "broker", self.broker)


@pytest.fixture
def program(settings: Settings, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    made = Program(settings, broker_url, monkeypatch)
    yield made
    made.stop()


def table(rows: int, encoding: str) -> bytes:
    """With cells that need quotes, an empty one now and then, and some that give a warning."""
    lines = ["first_name;company"]
    lines += [
        f'"Ann; {n}";{"" if n % 10 == 0 else f"Firm {n}"}' if n % 997 else f";Firm {n}" for n in range(rows)
    ]
    return "\r\n".join([*lines, ""]).encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_long_file_comes_out_as_one_worker_writes_it(
    program: Program, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with as many warnings; the bar counts its rows, and never goes back."""
    files = Files(program.settings.effective_files_url)
    ref = files.save("upload", "people.csv", "text/csv", [table(ROWS, encoding)])
    send = program.actors["personalize"].send_with_options
    program.work(threads=4)
    spread = program.ended(send(args=(dict(ref), TEMPLATE)).message_id)
    monkeypatch.setattr(sys.modules["workers.personalize"], "PIECE_ROWS", 10**9)
    alone = program.ended(send(args=(dict(ref), TEMPLATE)).message_id)

    assert ("succeeded", "succeeded") == (spread["state"], alone["state"])
    assert (3, 0, 0, 3, 0, 0) == parts(spread)
    assert None is alone["parts"]
    assert alone["result"] == spread["result"]
    assert alone["result"]["warnings"] > 10
    assert (ROWS, ROWS, "rows") == (spread["done"], spread["total"], spread["unit"])
    assert never_back(program.events(spread["id"]))
    assert content(program, files, alone["id"]) == content(program, files, spread["id"])


def content(program: Program, files: Files, job: str) -> bytes:
    record = program.look(job).record
    assert record is not None and record.file is not None
    with files.open(record.file) as file:
        return file.read()
