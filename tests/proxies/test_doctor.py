"""`doctor` names what each proxy does to a stream and what mends it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.proxies import setups
from tests.proxies.conftest import Served

#: As one should set them up.
HAPROXY_PATIENT = "timeout client 60s\n    timeout server 60s"
HAPROXY_PROMPT = "option http-no-delay"
#: As little as shows the fault.
SECONDS = "10"


def faults(output: str) -> list[str]:
    return re.findall(r"^FAULT +([a-z-]+):", output, re.MULTILINE)


def line(output: str, name: str) -> str:
    """What was said of it, with what to set."""
    found = re.search(rf"^(\S+ +{name}:.*(?:\n {{8}}.*)*)", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


def test_a_server_alone_has_no_fault(served: Served) -> None:
    """Nor has a proxy that is set up as it should be."""
    code, output = served.doctor(served.url, "--seconds", SECONDS)

    assert (0, []) == (code, faults(output))
    assert output.endswith("nothing to mend\n")


@pytest.mark.parametrize("proxy", ["nginx", "haproxy"])
def test_a_proxy_that_is_set_up_well_has_no_fault(served: Served, tmp_path: Path, proxy: str) -> None:
    """The settings that `doctor` tells people to make are enough."""
    setup = (
        setups.nginx(served.url, tmp_path / "nginx", "proxy_http_version 1.1; proxy_buffering off;")
        if proxy == "nginx"
        else setups.haproxy(
            served.url, tmp_path / "haproxy", defaults=f"{HAPROXY_PATIENT}\n    {HAPROXY_PROMPT}"
        )
    )
    with setup as url:
        code, output = served.doctor(url, "--seconds", SECONDS)

    assert (0, []) == (code, faults(output))


@pytest.mark.contract("doctor")
def test_a_buffering_nginx(served: Served, tmp_path: Path) -> None:
    """It reads HTTP/1.0 from the server by default, and fills a buffer first where it ignores the server's wish."""
    ignoring = "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on; proxy_buffer_size 64k; proxy_buffers 8 64k;"
    with setups.nginx(served.url, tmp_path / "nginx", ignoring) as url:
        code, output = served.doctor(url, "--seconds", SECONDS)

    assert (1, ["buffering"]) == (code, faults(output))
    assert "nginx: proxy_buffering off;" in line(output, "buffering").splitlines()[1]


@pytest.mark.contract("doctor")
def test_a_compressing_nginx(served: Served, tmp_path: Path) -> None:
    """The events wait in the compressor, too."""
    directives = (
        "proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream;"
        " gzip_min_length 0; gzip_proxied any;"
    )
    with setups.nginx(served.url, tmp_path / "nginx", directives) as url:
        code, output = served.doctor(url, "--seconds", SECONDS, "--direct", served.url)

    assert (1, ["compression", "buffering"]) == (code, faults(output))
    assert "nginx: gzip off;" in line(output, "compression").splitlines()[1]
    assert "(not without what stands between)" in line(output, "compression")


@pytest.mark.contract("doctor")
def test_an_haproxy_that_cuts_idle_streams(served: Served, tmp_path: Path) -> None:
    """After five seconds, which a heartbeat each fifteen does not prevent."""
    impatient = f"timeout client 60s\n    timeout server 5s\n    {HAPROXY_PROMPT}"
    with setups.haproxy(served.url, tmp_path / "haproxy", defaults=impatient) as url:
        code, output = served.doctor(url, "--seconds", SECONDS)

    assert (1, ["idle"]) == (code, faults(output))
    assert "cut after 5 s without a byte" in line(output, "idle")
    assert "HAProxy: timeout server 60s" in line(output, "idle")


@pytest.mark.contract("doctor")
def test_an_haproxy_that_delays_each_event(served: Served, tmp_path: Path) -> None:
    """As it does by default: two hundred milliseconds."""
    with setups.haproxy(served.url, tmp_path / "haproxy", defaults=HAPROXY_PATIENT) as url:
        code, output = served.doctor(url, "--seconds", SECONDS)

    assert (1, ["delay"]) == (code, faults(output))
    assert "HAProxy: option http-no-delay" in line(output, "delay").splitlines()[1]


@pytest.mark.contract("doctor")
def test_a_proxy_that_drops_last_event_id(served: Served, tmp_path: Path) -> None:
    """As a CDN does that passes on the headers that it knows."""
    dropping = f"{HAPROXY_PATIENT}\n    {HAPROXY_PROMPT}"
    with setups.haproxy(
        served.url,
        tmp_path / "haproxy",
        defaults=dropping,
        directives="http-request del-header Last-Event-ID",
    ) as url:
        code, output = served.doctor(url, "--seconds", SECONDS)

    assert (1, ["last-event-id"]) == (code, faults(output))
    assert "in the URL it arrives" in line(output, "last-event-id")
    assert "origin request policy" in line(output, "last-event-id")


@pytest.mark.contract("doctor")
def test_a_proxy_that_caps_an_answer(served: Served) -> None:
    """At fifteen seconds, whatever is said meanwhile: as Envoy does by default."""
    with setups.capping(served.url, 15) as url:
        code, output = served.doctor(url, "--seconds", "20")

    assert (1, ["long"]) == (code, faults(output))
    assert "after 15 s" in line(output, "long")
    assert "Envoy: route timeout: 0s" in line(output, "long")
