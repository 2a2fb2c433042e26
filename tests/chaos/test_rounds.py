"""Rounds of faults: a short one for every run, each fault by itself, and the crowds that come back in the same second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.breaking import LOSSLESS, LOSSY, Fault, web_killed
from tests.chaos.rounds import Outcome, Round, Scale

#: Each kind of job, and of watcher.
SHORT = Scale(jobs=8, appended=2, worked=2, workers=1, events=60, watchers=4, seconds=5, faults=3)
ALONE = Scale(jobs=8, appended=2, worked=2, workers=2, events=60, watchers=4, seconds=8, faults=2)
#: Two thousand watchers of twenty jobs.
CROWD = Scale(jobs=20, appended=0, worked=0, events=200, watchers=100, seconds=15, faults=2, patience=180)


def said(outcome: Outcome) -> str:
    return "\n".join(outcome.lines())


@pytest.mark.timeout(120)
def test_a_short_round_at_random_loses_nothing(tmp_path: Path) -> None:
    """Web and worker killed, lines cut, Redis away: what is drawn of all. The long form is `make chaos`."""
    outcome = Round(1, SHORT, LOSSLESS).run(tmp_path)

    assert [] == outcome.faults, said(outcome)
    assert outcome.injected
    assert (0, 0, 0, 0) == (outcome.lost, outcome.repeated, outcome.disordered, outcome.gaps)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", LOSSLESS, ids=lambda fault: fault.__name__)
def test_a_fault_without_loss_is_not_seen_by_any_watcher(fault: Fault, tmp_path: Path) -> None:
    """Twice in a round, and nothing else."""
    outcome = Round(1, ALONE, (fault,)).run(tmp_path)

    assert [] == outcome.faults, said(outcome)
    assert outcome.injected
    assert 0 == outcome.gaps


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", LOSSY, ids=lambda fault: fault.__name__)
def test_a_loss_is_told_to_exactly_those_who_saw_what_is_lost(fault: Fault, tmp_path: Path) -> None:
    """One loss in a round, and nothing else."""
    outcome = Round(1, ALONE, (fault,)).run(tmp_path)

    assert [] == outcome.faults, said(outcome)
    assert outcome.gaps_of_loss


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_thousand_watchers_that_come_back_in_the_same_second(tmp_path: Path) -> None:
    """The web process is killed under them, twice."""
    outcome = Round(1, CROWD, (web_killed,)).run(tmp_path)

    assert [] == outcome.faults, said(outcome)
    assert outcome.injected
    assert 0 == outcome.gaps
