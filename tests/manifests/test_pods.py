"""How pods begin, are looked at and end, and what they may: by the very numbers that the code goes by."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import _TrustedHosts

from progress_stream.addresses import REDIS_PORT, SENTINEL_PORT
from progress_stream.api.app import create_app
from progress_stream.server.run import GRACE_SECONDS
from progress_stream.settings import Settings, load

from .building import OVERLAYS, pick, pod_specs
from .conftest import overlay
from .test_settings import SET, wired

#: Between the last thing that a process waits for and the kill: closing connections, ending the interpreter.
SPARE_SECONDS = 5
#: RabbitMQ's own, with TLS and without (IANA).
AMQP_PORTS = (5671, 5672)


def container_of(name: str, pod: str) -> Any:
    (container,) = pod_specs(overlay(name))[pod]["containers"]
    return container


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_web_server_has_the_time_to_drain(name: str) -> None:
    """preStop, then SIGTERM: ready, drain, answers that are under way."""
    spec = pod_specs(overlay(name))["progress-stream-web"]
    before = container_of(name, "progress-stream-web")["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = before + int(SET["READY_SECONDS"]) + int(SET["DRAIN_SECONDS"]) + GRACE_SECONDS

    assert drain + SPARE_SECONDS <= spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_worker_has_the_time_to_end_its_jobs(name: str) -> None:
    """Longer than Dramatiq waits for them, or it would be killed while it gives back what it has not begun."""
    args = container_of(name, "progress-stream-worker")["args"]
    shutdown_ms = int(args[args.index("--worker-shutdown-timeout") + 1])
    grace = pod_specs(overlay(name))["progress-stream-worker"]["terminationGracePeriodSeconds"]

    assert shutdown_ms / 1000 + SPARE_SECONDS <= grace


@pytest.mark.parametrize("name", OVERLAYS)
def test_probes_ask_for_addresses_that_there_are(name: str, settings_for_app: Settings) -> None:
    """On the port where they are: a worker shows its numbers and nothing else."""
    app = create_app(settings_for_app)
    paths = {
        ("progress-stream-web", "http"): _paths(app.routes),
        ("progress-stream-web", "metrics"): _paths(app.state.admin.routes),
        ("progress-stream-worker", "metrics"): {"/metrics"},
    }
    for pod in ("progress-stream-web", "progress-stream-worker"):
        container = container_of(name, pod)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert int(SET["ADMIN_PORT"]) == ports["metrics"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[kind]["httpGet"]
            assert asked["path"] in paths[pod, asked["port"]]
    web = container_of(name, "progress-stream-web")
    assert "/readyz" == web["readinessProbe"]["httpGet"]["path"] != web["livenessProbe"]["httpGet"]["path"]
    assert str(8000) == web["args"][web["args"].index("--port") + 1]


@pytest.fixture
def settings_for_app() -> Settings:
    """Connects to nothing."""
    return load(redis_url="redis://127.0.0.1:1/0", jwt_secret="s" * 32, admin_port=int(SET["ADMIN_PORT"]))


def _paths(routes: list[Any]) -> set[str]:
    return {route.path for route in routes if isinstance(route, Route)}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_pod_may_do_nothing_but_its_work(name: str) -> None:
    """The Pod Security Standard `restricted`, a root that cannot be written, and no way to the cluster's API."""
    for pod, spec in pod_specs(overlay(name)).items():
        _check_closed(spec, container_of(name, pod))


def _check_closed(spec: Any, container: Any) -> None:
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
    assert {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]  # fmt: skip
    assert not spec["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all("hostPath" not in volume for volume in spec.get("volumes", []))
    assert {"requests", "limits"} == container["resources"].keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_image_is_one_and_the_same_tomorrow(name: str) -> None:
    """A version or a digest; never none, never `latest`."""
    for pod in pod_specs(overlay(name)):
        tag = container_of(name, pod)["image"].rpartition("/")[2].partition(":")[2]

        assert tag and not tag.startswith("latest")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_network_is_closed_but_for_what_is_named(name: str) -> None:
    """Each kind of pod has a policy, both ways; the numbers and the list of streams are for those who scrape."""
    for component in ("web", "worker"):
        policy = pick(overlay(name), "NetworkPolicy", f"progress-stream-{component}")["spec"]
        assert ["Ingress", "Egress"] == policy["policyTypes"]
        admin = [
            rule
            for rule in policy["ingress"]
            if int(SET["ADMIN_PORT"]) in {port["port"] for port in rule["ports"]}
        ]
        assert admin and all("from" in rule for rule in admin)
        assert all("ports" in rule for rule in policy["egress"])


@pytest.mark.parametrize("component", ["web", "worker"])
def test_every_kind_of_store_and_broker_can_be_reached(component: str) -> None:
    """At the ports that URLs without one mean: Redis, what names its primary, RabbitMQ with TLS and without."""
    policy = pick(overlay("prod"), "NetworkPolicy", f"progress-stream-{component}")["spec"]
    open_ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}

    assert {REDIS_PORT, SENTINEL_PORT, *AMQP_PORTS} <= open_ports


def test_production_waits_for_a_replica_and_development_has_none() -> None:
    """What a failover of Redis may lose is made less where there is a replica; without one each wait would be in vain."""
    waits = {
        name: int(wired(name)["progress-stream-worker"]["REPLICA_WAIT_MS"] or 0) for name in ("dev", "prod")
    }

    assert waits["prod"] > 0 == waits["dev"]


def test_autoscaling_leaves_the_number_of_pods_to_the_autoscaler() -> None:
    """A number in the Deployment would be set back at each apply."""
    objects = overlay("prod")
    for name in ("progress-stream-web", "progress-stream-worker"):
        assert "replicas" not in pick(objects, "Deployment", name)["spec"]
        assert pick(objects, "HorizontalPodAutoscaler", name)["spec"]["minReplicas"] >= 2


def test_a_worker_is_given_as_many_messages_as_it_has_threads() -> None:
    """With more it would be scaled too late, with fewer for nothing; and a full server's streams fit into what is left."""
    args = container_of("prod", "progress-stream-worker")["args"]
    (waiting,) = pick(overlay("prod"), "HorizontalPodAutoscaler", "progress-stream-worker")["spec"]["metrics"]
    watchers = pick(overlay("prod"), "HorizontalPodAutoscaler", "progress-stream-web")["spec"]["metrics"][0]

    assert args[args.index("--threads") + 1] == waiting["external"]["target"]["averageValue"]
    assert 4 * int(watchers["pods"]["target"]["averageValue"]) <= int(SET["MAX_STREAMS"])


def test_proxies_inside_are_believed_and_nobody_else() -> None:
    """What a client from outside writes into X-Forwarded-For stays what a client wrote."""
    (trusted,) = [
        one["value"]
        for one in container_of("prod", "progress-stream-web")["env"]
        if one["name"] == "FORWARDED_ALLOW_IPS"
    ]
    hosts = _TrustedHosts(trusted)

    assert all(
        address in hosts for address in ("10.42.0.7", "172.18.0.2", "192.168.1.1", "100.64.3.4", "fd00::7")
    )
    assert not any(address in hosts for address in ("203.0.113.9", "8.8.8.8", "2001:db8::1"))


def test_uploads_pass_the_ingress() -> None:
    """Its own limit is above FILE_BYTES and the form around it, or it would answer in the server's place."""
    annotations = pick(overlay("dev"), "Ingress", "progress-stream")["metadata"]["annotations"]
    limit = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]

    assert limit.endswith("m") and int(limit[:-1]) * 2**20 > int(SET["FILE_BYTES"])
    heartbeat = float(SET["HEARTBEAT_SECONDS"])
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 4 * heartbeat


def test_a_stream_is_not_cut_by_the_gateway() -> None:
    """Zero is no limit; a limit on an answer would be one on a stream."""
    for rule in pick(overlay("prod"), "HTTPRoute", "progress-stream")["spec"]["rules"]:
        assert {"request": "0s", "backendRequest": "0s"} == rule["timeouts"]
