"""The simulation finds faults that are put into the product: each within some thousand made-up lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.check import FOUND
from tests.chaos.mutants import OF_ORDER, Mutant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SEEDS = 4_000


@pytest.mark.parametrize("mutant", OF_ORDER, ids=lambda mutant: mutant.name)
def test_each_mutant_is_found(mutant: Mutant, tmp_path: Path) -> None:
    """By what watchers saw, not by a crash."""
    mutant.plant(tmp_path)
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation.world", "1", str(SEEDS)],
        cwd=root, env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))},
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip

    assert FOUND == ran.returncode, f"{ran.stdout}\n{ran.stderr[-2_000:]}"
