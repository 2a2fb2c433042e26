"""Whatever happens to a job in Redis, its scripts write what they must, and whoever comes back is told exactly what it lacks.

The same examples each time in the short test; others each time in the long one. And the machine finds faults that are put in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.check import FOUND
from tests.chaos.mutants import Mutant
from tests.store.machine import run, server_with_clock
from tests.support import lacking, shims
from tests.support.clock import MovingClock
from tests.support.redis import RedisServer

Served = tuple[RedisServer, MovingClock]

APPEND: Final = "store/scripts/append.lua"
START: Final = "store/scripts/start.lua"
CONTROL: Final = "store/scripts/_control.lua"
RESUME: Final = "streaming/resume.py"

MUTANTS: Final = (
    Mutant(
        "the nonce is not looked at", APPEND,
        "if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then", "if c[3] ~= tonumber(ARGV[3]) then",
    ),
    Mutant("any attempt may write", APPEND, "if c[3] ~= tonumber(ARGV[3]) or c[4] ~= ARGV[4] then", "if false then"),
    Mutant(
        "what is sent again is appended again", APPEND,
        "if count > 0 and base + count - 1 <= c[5] then", "if false then",
        also=("for i = c[5] - base + 2, count do", "for i = 1, count do"),
    ),
    Mutant(
        "what is known in part is appended whole", APPEND, "for i = c[5] - base + 2, count do", "for i = 1, count do",
    ),
    Mutant(
        "what is sent again is answered the newest id", APPEND,
        "c[10] == base + count - 1 and c[11] or id_of(c[1], c[2])", "id_of(c[1], c[2])",
    ),
    Mutant("sequence numbers are not compared", APPEND, "if base > c[5] + 1 then", "if false then"),
    Mutant("a jump leaves no number empty", APPEND, "  c[2] = c[2] + 1\n", ""),
    Mutant("the epoch stays over another life", APPEND, "if c[7] ~= id then begin_stream(KEYS[1], c, id) end\n", ""),
    Mutant("something follows the end", APPEND, "if ENDED[c[6]] then return { 'ended', c[6] } end", ""),
    Mutant("an append leaves the state as it was", APPEND, "cmsgpack.pack(c), 'state', ARGV[8],", "cmsgpack.pack(c),"),
    Mutant(
        "a start whose answer was lost takes another attempt", START, "if c[4] == ARGV[3] then", "if false then",
    ),
    Mutant("a zombie's start ousts a later attempt", START, "if nonce == ARGV[3] then", "if false then"),
    Mutant(
        "who brings a job back may begin below what was seen", START,
        "c[1] = math.max(c[1], tonumber(ARGV[11]) + 1)", "",
    ),
    Mutant(
        "an attempt that was lost is taken again under another number", START,
        "c[3] = math.max(c[3], tonumber(ARGV[13]) - 1)", "",
    ),
    Mutant("the epoch stays when the stream is gone", CONTROL, "      begin_stream(key, c, c[7])\n", ""),
    Mutant(
        "an epoch is the clock alone", CONTROL, "math.max(now_ms(), old + 1 + (tonumber(string.sub(id, 1, 4), 16) or 0))",
        "now_ms()",
    ),
    Mutant(
        "two lives of one ancestor choose one epoch", CONTROL, "old + 1 + (tonumber(string.sub(id, 1, 4), 16) or 0)", "old + 1",
    ),
    Mutant(
        "a trimmed position is taken for a live one", RESUME,
        "return first == position or first.follows(position)", "return first >= position",
        also=("or entries[0][0].n != position.n + 1:", "and False:"),
    ),
    Mutant(
        "a place of another epoch is taken for its own", RESUME,
        "return first == position or first.follows(position)",
        "return first == position or first.n == position.n + 1",
    ),
    Mutant("a number that is missing is passed over", RESUME, "        if id.n != n + 1:", "        if False:"),
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if shims.compiler() is None:
        lacking("a C compiler for the clock shim")
    with server_with_clock(tmp_path_factory.mktemp("machine")) as found:
        yield found


def test_whatever_happens_nothing_is_lost_in_silence(served: Served) -> None:
    """Sixty histories of thirty steps, the same each time."""
    run(*served, examples=60, steps=30, by_chance=False)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nor_in_many_long_histories(served: Served) -> None:
    """Others each time; what fails is printed as a list of steps."""
    run(*served, examples=1_000, steps=60, by_chance=True)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_found(mutant: Mutant, tmp_path: Path) -> None:
    """By what the machine saw, not by a crash."""
    mutant.plant(tmp_path)
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.store.machine", "1000", "50"],
        cwd=root, env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip

    assert FOUND == ran.returncode, f"{ran.stdout}\n{ran.stderr[-2_000:]}"
