"""docs/proxies.md has a figure for each proxy and check, and says of what was not tried that it was not."""

from __future__ import annotations

import re
from pathlib import Path

from tests.proxies.standing import DEFAULTS, SETUPS, SNIPPETS
from tests.proxies.table import HEAD, LOST

PAGE = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
NOT_RUN = (
    "AWS Application Load Balancer", "AWS API Gateway", "AWS CloudFront", "Google Cloud", "Azure", "Cloudflare", "Envoy", "Istio",
    "Traefik", "Heroku",
)  # fmt: skip


def row(name: str) -> list[str]:
    (cells,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in cells.split("|")]


def test_every_proxy_has_a_figure_for_every_check() -> None:
    """And nothing was lost behind any."""
    assert f"| {' | '.join(HEAD)} |" in PAGE
    for name in SETUPS:
        assert len(HEAD) - 1 == len([cell for cell in row(name) if cell and LOST not in cell]), name
    for name in DEFAULTS:
        assert all(row(f"{name}, as it comes")[:2]), name


def test_every_file_for_a_proxy_is_named() -> None:
    """An operator finds it from there."""
    assert all(f"(../manifests/proxies/{file.name})" in PAGE for file in SNIPPETS.iterdir())


def test_what_was_not_tried_is_marked_so() -> None:
    """From their documentation, each with the page that says it."""
    _, _, told = PAGE.partition("## From their documentation, not run here\n")

    assert "Nothing of this section was tried." in told
    for name in NOT_RUN:
        assert re.search(rf"^\| [^|]*{name}", told, re.MULTILINE), name
