"""Ten thousand lives of a job, each another sequence of faults: nobody loses, repeats or misorders anything, and who lost is told.

A seed that fails replays exactly: `python -c "from tests.simulation.world import simulate; print(simulate(4711))"`.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.world import simulate

#: So many in pieces, that several processes share.
RUNS, PIECES = int(os.environ.get("RUNS", "10000")), 20
FIRST = int(os.environ.get("SEED", "1"))


@pytest.mark.parametrize("piece", range(PIECES))
def test_no_order_of_things_loses_or_repeats_an_event(piece: int) -> None:
    """Whatever is dropped, late, cut, restarted or lost."""
    for seed in range(FIRST + piece, FIRST + RUNS, PIECES):
        found = simulate(seed)
        assert [] == found, f"seed {seed}: {found[:5]}"


def test_a_seed_is_a_run() -> None:
    """What it found can be had again."""
    from tests.simulation import world

    def trace(seed: int) -> list[object]:
        kept: list[object] = []
        before = world.World._faults

        def faults(self: world.World) -> list[str]:
            kept.extend(
                (client.seen.events, client.seen.connects, client.seen.cuts) for client in self.clients
            )
            return before(self)

        world.World._faults = faults  # type: ignore[method-assign]
        try:
            simulate(seed)
        finally:
            world.World._faults = before  # type: ignore[method-assign]
        return kept

    assert all(trace(seed) == trace(seed) for seed in range(FIRST, FIRST + 20))
