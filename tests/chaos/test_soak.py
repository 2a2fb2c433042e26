"""Nothing grows; and where something is made to grow, that is found. The long form is `make soak FOR=1800`."""

from __future__ import annotations

import os
import subprocess
import sys
from math import sin
from pathlib import Path

import pytest

from tests.chaos.check import FOUND
from tests.chaos.mutants import SOURCE, Mutant
from tests.chaos.trend import trend

LEAK = Mutant(
    "who leaves is remembered, with 64 KiB",
    "streaming/hub.py",
    "        watcher.gone = True\n",
    "        watcher.gone = True\n        LEFT.append((watcher, bytes(65_536)))\n",
    also=(
        "log = logging.getLogger(__name__)\n",
        "log = logging.getLogger(__name__)\nLEFT: list[object] = []\n",
    ),
)
LOST_KEYS = Mutant(
    "what has ended stays in Redis",
    "store/scripts/_control.lua",
    "  expire(keys[1], keys[2], events_ttl, state_ttl)\n",
    "",
)


def soaked(package: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """The short form with the product that lies in this folder."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [
            sys.executable, "-m", "tests.chaos.soak", "--seconds", str(seconds), "--watchers", "200", "--coarse",
        ],
        cwd=root, env=os.environ | {"PYTHONPATH": os.pathsep.join((str(package), str(root)))},
        capture_output=True, text=True, timeout=seconds + 90,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_minute_of_coming_and_going_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Coarse bounds: in a minute nothing has found its level."""
    ran = soaked(SOURCE.parent, 60)
    with capsys.disabled():
        print(f"\n  {ran.stdout}")

    assert 0 == ran.returncode, ran.stderr[-2_000:]
    assert ran.stdout.rstrip().endswith(": flat")


@pytest.mark.long
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("mutant", "found"),
    [(LEAK, "web MiB"), (LOST_KEYS, "redis keys")],
    ids=lambda one: getattr(one, "name", one),
)
def test_what_is_made_to_grow_is_found(mutant: Mutant, found: str, tmp_path: Path) -> None:
    """A leak in the web process, and one in Redis; by its name."""
    mutant.plant(tmp_path)
    ran = soaked(tmp_path, 45)

    assert FOUND == ran.returncode, f"{ran.stdout}\n{ran.stderr[-2_000:]}"
    assert found in ran.stdout.rpartition("GROWS: ")[2]


def test_a_line_s_slope_is_found_after_its_first_third() -> None:
    """What a process takes to warm up is no leak."""
    seconds = [float(at) for at in range(0, 3_600, 10)]
    values = [500.0 if at < 1_190 else 100 + at / 3_600 * 7 for at in seconds]
    found = trend(seconds, values)

    assert abs(found.slope - 7) < 1e-6
    assert not found.is_flat(6)
    assert found.is_flat(8)


def test_what_goes_up_and_down_is_flat_and_what_climbs_among_it_is_not() -> None:
    """The error of a slope is taken off it; falling is no growth."""
    seconds = [float(at) for at in range(0, 1_800, 9)]
    waves = [100 + 10 * sin(at) for at in seconds]

    assert trend(seconds, waves).is_flat(20)
    assert not trend(seconds, [wave + at / 36 for at, wave in zip(seconds, waves, strict=True)]).is_flat(20)
    assert trend(seconds, [wave - at for at, wave in zip(seconds, waves, strict=True)]).is_flat(0)


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        trend([0, 1], [1, 2])
