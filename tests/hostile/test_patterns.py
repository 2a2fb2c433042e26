"""Every regular expression of package, workers and page against long hostile text: none takes more than its length.

The patterns are found in the modules, each with the way in which it is used, and tried with what it is made of itself: a new one is
tried too.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import progress_stream

# Whoever imports the workers gives their broker an address first.
import tests.unit.workers.conftest  # noqa: F401

pytestmark = pytest.mark.slow

#: Two sizes a decade apart. What is quadratic takes 100 times as long for the larger one.
SHORT, LONG = 1_000, 10_000
#: What takes less than this for the larger size is linear with a factor that nobody notices.
NOTICED_SECONDS = 0.02
#: Between what is linear (10) and what is quadratic (100).
MOST_GROWTH = 40
#: Beside what a pattern is made of: what the words of its kind look like.
SEEDS = (
    "a", "-", "_", "0", " ", "\t", "\n", "\r\n", '"', "=", ".", "/", ":", "{", "{{", "}", "\u00e9", "eyJ", "-eyJ-", "eyJaaaaaaaa.",
)  # fmt: skip
#: What ends a match late.
TAILS = ("", "!", "\n")

Pattern = re.Pattern[Any]
#: How a pattern may be used, by its method's name.
USES: dict[str, Callable[[Pattern, Any], object]] = {
    "fullmatch": lambda pattern, text: pattern.fullmatch(text),
    "match": lambda pattern, text: pattern.match(text),
    "search": lambda pattern, text: pattern.search(text),
    "sub": lambda pattern, text: pattern.sub(lambda found: found[0], text),
    "split": lambda pattern, text: pattern.split(text),
    "findall": lambda pattern, text: pattern.findall(text),
    "finditer": lambda pattern, text: sum(1 for _ in pattern.finditer(text)),
}


def modules() -> Iterator[ModuleType]:
    for package in (progress_stream, importlib.import_module("workers")):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def patterns_in(value: object, depth: int = 2) -> Iterator[tuple[Pattern, str]]:
    """In a module's constant: a pattern, a method of one with its name, or a few of them together."""
    if isinstance(value, re.Pattern):
        yield value, ""
    elif isinstance(pattern := getattr(value, "__self__", None), re.Pattern):
        yield pattern, str(getattr(value, "__name__", ""))
    elif depth and isinstance(value, tuple | list | set | frozenset):
        for inner in value:
            yield from patterns_in(inner, depth - 1)
    elif depth and isinstance(value, dict):
        yield from patterns_in(list(value.values()), depth)


def used_as(name: str, sources: str) -> set[str]:
    """The methods that are called on a constant of this name; of one in a table `sub`, as the log's."""
    return set(re.findall(rf"\b{name}\.({'|'.join(USES)})\b", sources)) or {"sub"}


def all_patterns() -> dict[str, tuple[Pattern, set[str]]]:
    """By where each is: the pattern, and how it is used. One that two modules share is named once."""
    everywhere = list(modules())
    sources = "\n".join(inspect.getsource(module) for module in everywhere)
    found: dict[Pattern, tuple[str, set[str]]] = {}
    for module in everywhere:
        for name, value in vars(module).items():
            for number, (pattern, method) in enumerate(patterns_in(value)):
                uses = {method} if method else used_as(name, sources)
                found.setdefault(pattern, (f"{module.__name__}.{name}.{number}", uses))
    return {name: (pattern, uses) for pattern, (name, uses) in found.items()}


@pytest.fixture(scope="module")
def patterns() -> dict[str, tuple[Pattern, set[str]]]:
    return all_patterns()


def source_of(pattern: Pattern) -> str:
    return pattern.pattern if isinstance(pattern.pattern, str) else str(pattern.pattern, "latin-1")


def pieces_of(text: str) -> set[str]:
    """The literal runs in a pattern's source, and the ends of its sets' ranges: what its own loops eat."""
    runs = set(re.findall(r"[A-Za-z0-9:/=@&?\"' -]{1,20}", text))
    return runs | set(text) - set("\\()|^$?+*")


def hostile(source: str) -> Iterator[tuple[str, str]]:
    for piece in {*SEEDS, *pieces_of(source)}:
        for tail in TAILS:
            yield piece, tail


def seconds(use: Callable[[Any], object], piece: str, tail: str, size: int, binary: bool) -> float:
    text = (piece * (size // len(piece) + 1))[:size] + tail
    subject: Any = text.encode("utf-8", "surrogatepass") if binary else text
    # Of this thread alone: what else runs on the machine is no matter of the pattern's.
    began = time.thread_time()
    use(subject)
    return time.thread_time() - began


def grows(use: Callable[[Any], object], piece: str, tail: str, binary: bool) -> bool:
    """Whether more text takes more than in proportion. Looked at again before it is believed: others may have had the core."""
    if seconds(use, piece, tail, LONG, binary) < NOTICED_SECONDS:
        return False
    short = min(seconds(use, piece, tail, SHORT, binary) for _ in range(3))
    long = min(seconds(use, piece, tail, LONG, binary) for _ in range(3))
    return long > NOTICED_SECONDS and long > MOST_GROWTH * short


def growing(pattern: Pattern, uses: set[str]) -> tuple[str, str, str] | None:
    """How it is used, and the piece and the end of a text that takes it too long; None: there is none."""
    binary = isinstance(pattern.pattern, bytes)
    for use in sorted(uses):
        for piece, tail in hostile(source_of(pattern)):
            if grows(partial(USES[use], pattern), piece, tail, binary):
                return use, piece, tail
    return None


def test_the_patterns_are_found(patterns: dict[str, tuple[Pattern, set[str]]]) -> None:
    """Of constants, of methods, and within tables, each with its use."""
    names = {name.rpartition(".")[0]: uses for name, (_, uses) in patterns.items()}

    assert len(patterns) > 30
    assert (
        {"fullmatch"}
        == names["progress_stream.events._EVENT_ID"]
        == names["progress_stream.store.messages._TYPE"]
    )
    assert {"search"} == names["progress_stream.streaming.hub._AT"]
    assert {"sub"} == names["progress_stream.cli.logs._SECRETS"]
    assert names.keys() >= {"workers.template._BRACES", "workers.formulas._LATER", "workers.tables._HINT"}


@pytest.mark.parametrize("bad", [rb"x*y", r"eyJ[\w-]{8,}\.[\w-]+", r"a[\w-]{8,}\.b"], ids=str)
def test_a_pattern_that_takes_too_long_is_found(bad: str | bytes) -> None:
    """Else the test below would prove nothing."""
    assert growing(re.compile(bad), {"search"})


def test_no_pattern_takes_more_than_its_text_is_long(patterns: dict[str, tuple[Pattern, set[str]]]) -> None:
    """For any of its own pieces, repeated to ten thousand characters, with an end that does not fit."""
    assert {} == {name: found for name, known in patterns.items() if (found := growing(*known)) is not None}


#: A literal in a script, by what stands before and after it.
LITERAL = re.compile(
    r"(?<=[=(,:!&|? ])/(?![/*\s])((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+)/([a-z]*)(?=[.,;)])"
)
#: What may come before what is repeated: where a pattern of the page begins to look.
HEADS = ("", "{{", "#/jobs/", "1-")
#: Reads [source, flags, head, piece, tail][] and answers those whose time grows faster than their text.
GROWING_IN_NODE = """
const [cases, short, long, noticed, most] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const seconds = ([source, flags, head, piece, tail], size) => {
  const text = head + piece.repeat(Math.ceil(size / piece.length)).slice(0, size) + tail;
  const pattern = new RegExp(source, flags);
  const began = process.cpuUsage();
  text.replace(pattern, "");
  const { user, system } = process.cpuUsage(began);
  return (user + system) / 1e6;
};
const least = (one, size) => Math.min(seconds(one, size), seconds(one, size), seconds(one, size));
const grows = (one) => seconds(one, long) > noticed && least(one, long) > Math.max(noticed, most * least(one, short));
console.log(JSON.stringify(cases.filter(grows)));
"""


def literals() -> set[tuple[str, str]]:
    """The patterns of the page's and its client's scripts, with their flags."""
    web = Path(__file__).parents[2] / "web"
    files = [file for folder in ("client", "dashboard") for file in (web / folder).glob("*.js")]
    return {(source, flags) for file in files for source, flags in LITERAL.findall(file.read_text("utf-8"))}


def growing_in_node(patterns: set[tuple[str, str]]) -> list[list[str]]:
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no node here")
        pytest.skip("there is no node here")
    cases = [
        [source, flags, head, piece, tail]
        for source, flags in sorted(patterns)
        for head in HEADS
        for piece, tail in hostile(source)
    ]
    done = subprocess.run(
        [node, "-e", GROWING_IN_NODE], input=json.dumps([cases, SHORT, LONG, NOTICED_SECONDS, MOST_GROWTH]),
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("bad", [r"\s+$", r"\{\{\s*a?\s*\}\}"])
def test_a_pattern_of_a_script_that_takes_too_long_is_found(bad: str) -> None:
    """Else the test below would prove nothing."""
    assert growing_in_node({(bad, "g")})


def test_no_pattern_of_the_page_takes_more_than_its_text_is_long() -> None:
    """Of the dashboard and of the client in it."""
    found = literals()

    assert {r"^(\d{1,20})-(\d{1,20})$", r"^#\/jobs\/([^/]+)$", r"\r\n|\r|\n", r"[{}|]"} <= {
        source for source, _ in found
    }
    assert len(found) >= 9
    assert [] == growing_in_node(found)
