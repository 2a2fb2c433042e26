"""No pinned version is older than the one that mended a known hole: what an audit would say, where its data cannot be had."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
#: The first version without it, and what it was.
FLOORS = {
    "h11": ("0.16.0", "CVE-2025-43859: chunked bodies taken apart otherwise than by a proxy"),
    "joserfc": (
        "1.6.7",
        "CVE-2025-65015: a huge token logged; CVE-2026-48990: `b64: false` passed the size limit by",
    ),
    "python-multipart": (
        "0.0.27",
        "CVE-2024-53981, CVE-2026-24486 (a file written anywhere), CVE-2026-40347, CVE-2026-42561",
    ),
    "redis": ("4.5.4", "CVE-2023-28859: after a cancelled command the next request got another one's answer"),
    "starlette": (
        "1.3.1",
        "CVE-2026-48710: a Host header that poisons the path; PYSEC-2026-249: limits of forms ignored",
    ),
    "uvicorn": ("0.11.7", "CVE-2020-7694, CVE-2020-7695: forged log lines and headers"),
}
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>\S+)", re.MULTILINE)


def pins(file: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / file).read_text()
    return {found["name"]: Version(found["version"]) for found in PIN.finditer(text)}


@pytest.mark.parametrize("file", ["run.txt", "dev.txt"])
def test_every_pin_is_at_its_floor_or_above(file: str) -> None:
    """What a fresh machine installs."""
    pinned = pins(file)
    below = {
        name: f"{pinned[name]} is older than {floor}: {why}"
        for name, (floor, why) in FLOORS.items()
        if name in pinned and pinned[name] < Version(floor)
    }

    assert {} == below
    assert {"joserfc", "redis", "starlette", "uvicorn"} <= set(pinned)


def test_no_range_lets_a_version_below_its_floor_in() -> None:
    """What somebody installs beside other libraries."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = {wanted.name: wanted.specifier for wanted in map(Requirement, project["dependencies"])}
    below = {}
    for name, (floor, why) in FLOORS.items():
        least = [Version(one.version) for one in ranges.get(name, ()) if one.operator in {">=", "==", "~="}]
        if name in ranges and (not least or max(least) < Version(floor)):
            below[name] = f"{ranges[name]} allows less than {floor}: {why}"

    assert {} == below
    assert "starlette" in ranges
