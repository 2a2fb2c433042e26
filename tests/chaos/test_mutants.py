"""The checker finds each fault that is put into the product, and none where none was put."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.check import FOUND
from tests.chaos.mutants import MUTANTS, SOURCE, Mutant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Short rounds: four jobs that are watched by four each, half of whom are cut again and again.
SHORT = (
    "--seconds", "0", "--jobs", "4", "--appended", "0", "--worked", "0", "--watchers", "4", "--events", "400",
    "--round-seconds", "4", "--round-faults", "6",
)  # fmt: skip


#: Rounds in which a mutant must show: what is drawn may miss it once.
ROUNDS = 6


def round_of(
    package: Path, faults: tuple[str, ...], *, seed: int = 1, patience: float = 30
) -> subprocess.CompletedProcess[str]:
    """One round with the product that lies in this folder."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join((str(package), str(root)))
    return subprocess.run(
        [
            sys.executable, "-m", "tests.chaos.rounds", *SHORT, "--seed", str(seed), "--patience", str(patience),
            "--faults", *faults,
        ],
        cwd=root, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_found(mutant: Mutant, tmp_path: Path) -> None:
    """By what watchers saw, not by a crash."""
    mutant.plant(tmp_path)
    for seed in range(1, ROUNDS + 1):
        ran = round_of(tmp_path, mutant.faults, seed=seed, patience=8)
        if ran.returncode != 0:
            break

    assert FOUND == ran.returncode, f"{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("faults", list(dict.fromkeys(mutant.faults for mutant in MUTANTS)), ids=" ".join)
def test_the_product_itself_passes_where_they_are_found(faults: tuple[str, ...]) -> None:
    """The same rounds without a mutant."""
    ran = round_of(SOURCE.parent, faults)

    assert 0 == ran.returncode, f"{ran.stdout}\n{ran.stderr}"
    assert "lost 0 · repeated 0 · out of order 0 · gaps 0" in ran.stdout
