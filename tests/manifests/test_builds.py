"""Every overlay and every component builds, and what comes out is what Kubernetes takes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from .building import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    build,
    called,
    combined,
    custom_faults,
    faults,
    is_custom,
    pick,
    pod_specs,
)
from .conftest import overlay


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid(name: str) -> None:
    """For the oldest Kubernetes that we name and for the newest."""
    assert [] == faults(overlay(name))


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_goes_with_the_base_alone(component: str, tmp_path: Path) -> None:
    """Whoever makes an overlay of their own takes what they need and no more."""
    assert [] == faults(build(combined(tmp_path, component)))


def test_one_pod_of_each_has_room_to_be_replaced() -> None:
    """The old pod goes first, and nothing forbids that."""
    objects = overlay("dev")
    for name in ("progress-stream-web", "progress-stream-worker"):
        spec = pick(objects, "Deployment", name)["spec"]
        assert 1 == spec["replicas"]
        assert {"maxSurge": 0, "maxUnavailable": 1} == spec["strategy"]["rollingUpdate"]
        assert "topologySpreadConstraints" not in spec["template"]["spec"]
    assert not any(thing["kind"] == "PodDisruptionBudget" for thing in objects)


def test_custom_kinds_are_valid_and_a_wrong_field_would_be_found(node: None) -> None:
    """The route, scraping and alerts, by types made of those projects' own code. A check that passes everything would pass ours."""
    things = [thing for name in OVERLAYS for thing in overlay(name)]
    wrong = copy.deepcopy(overlay("prod"))
    pick(wrong, "HTTPRoute", "progress-stream")["spec"]["rules"][0]["timeouts"]["idle"] = "0s"
    pick(wrong, "ServiceMonitor", "progress-stream")["spec"]["endpoints"][0]["interval"] = "15 seconds"
    found = custom_faults([*things, *wrong])

    assert {"HTTPRoute", "PrometheusRule", "ServiceMonitor"} == {
        thing["kind"] for thing in things if is_custom(thing)
    }
    assert ["HTTPRoute progress-stream", "ServiceMonitor progress-stream"] == sorted(
        fault.partition(":")[0] for fault in found
    )


def test_a_wrong_field_of_a_built_in_kind_would_be_found() -> None:
    """For each version of Kubernetes."""
    objects = copy.deepcopy(overlay("prod"))
    (container,) = pod_specs(objects)["progress-stream-web"]["containers"]
    container["lifecycle"]["preStop"]["sleep"]["secs"] = 5
    pick(objects, "Service", "progress-stream-web")["spec"]["ports"][0]["port"] = "80"

    assert [len(KUBERNETES)] * 2 == [
        sum(word in fault for fault in faults(objects))
        for word in ("'secs' was unexpected", "spec.ports.0.port")
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_named_is_there(name: str) -> None:
    """Services find pods by their labels, routes find Services, pods find what they mount; Secrets are made by hand."""
    objects = overlay(name)
    there = {called(thing) for thing in objects}
    for thing in objects:
        match thing["kind"]:
            case "Service" | "PodDisruptionBudget" | "NetworkPolicy":
                assert _selects_a_pod(thing, objects), called(thing)
            case "HorizontalPodAutoscaler":
                target = thing["spec"]["scaleTargetRef"]
                assert f"{target['kind']} {target['name']}" in there
            case "HTTPRoute":
                for rule in thing["spec"]["rules"]:
                    for reference in rule["backendRefs"]:
                        service = pick(objects, "Service", reference["name"])
                        assert reference["port"] in {port["port"] for port in service["spec"]["ports"]}
            case "Deployment":
                for volume in thing["spec"]["template"]["spec"]["volumes"]:
                    claim = volume.get("persistentVolumeClaim")
                    assert claim is None or f"PersistentVolumeClaim {claim['claimName']}" in there


def _selects_a_pod(thing: dict, objects: list[dict]) -> bool:
    spec = thing["spec"]
    wanted = (spec.get("podSelector") or spec["selector"]).get("matchLabels") or spec["selector"]
    pods = [
        other["spec"]["template"]["metadata"]["labels"]
        for other in objects
        if other["kind"] in {"Deployment", "StatefulSet"}
    ]
    return any(wanted.items() <= labels.items() for labels in pods)
