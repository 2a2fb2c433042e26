"""Alerts and the dashboard name numbers that there are, say something when it is time, and lead to a page that helps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from progress_stream import metrics
from tests.support.redis import RedisServer

from .building import MANIFESTS, ROOT, build, pod_specs
from .test_settings import SET

MONITORING: Final = MANIFESTS / "components" / "monitoring"
RULES: Final[list[dict[str, Any]]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"][
    "groups"
][0]["rules"]
TESTS: Final = Path(__file__).with_name("alerts.test.yaml")
DASHBOARD: Final = json.loads((MONITORING / "dashboard.json").read_text())
#: What a scrape adds to each series, and a histogram to its own.
SCRAPED: Final = {"job", "pod", "namespace", "le"}


def shown() -> dict[str, set[str]]:
    """Every series that our processes show: name → labels."""
    found: dict[str, set[str]] = {}
    for one in metrics.ALL:
        endings = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        found |= {one.full_name + ending: {*one.labels, *SCRAPED} for ending in endings}
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", []))
    adapter = yaml.safe_load((MANIFESTS / "components" / "autoscaling" / "adapter-rules.yaml").read_text())[
        "rules"
    ]
    yield from (rule["seriesQuery"] for rule in adapter["custom"] + adapter["external"])


def test_they_name_series_and_labels_that_there_are() -> None:
    """A renamed metric would make an alert that never fires."""
    known = shown()
    for expression in expressions():
        for name, selector in re.findall(
            r"(progress_stream_\w+)(?:\{([^}]*?(?:\{\w+\})?[^}]*)\})?", expression
        ):
            assert name in known, expression
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= known[name], expression


def test_every_metric_is_on_the_dashboard() -> None:
    """It is what somebody looks at who does not know yet what to ask for."""
    text = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", []))

    assert [] == [one.full_name for one in metrics.ALL if one.full_name not in text]


def test_values_of_labels_are_ones_that_the_code_counts() -> None:
    """Kinds of resumes and reasons of refusals."""
    source = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for expression in expressions():
        for values in re.findall(r'(?:reason|kind)=~?"([^"]+)"', expression):
            assert all(f'"{value}"' in source for value in values.split("|")), values


def test_nearly_full_is_four_fifths_of_the_limit() -> None:
    """The limit is a setting, the alert a number: they are changed together."""
    (rule,) = [rule for rule in RULES if rule["alert"] == "ProgressStreamNearlyFull"]

    assert str(int(SET["MAX_STREAMS"]) * 4 // 5) == rule["expr"].rpartition("> ")[2]


def section_of(alert: str) -> str:
    document = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(rf"^### {alert}\n(.+?)(?=^##)", document, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{alert} has no section in the runbook"
    return found[1]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_its_section_in_the_runbook(rule: dict[str, Any]) -> None:
    """Whoever is woken at three finds by its name what people notice, and then what to do, step by step."""
    notice, _, steps = section_of(rule["alert"]).partition("\n1. ")

    assert len(notice.removeprefix("*Critical.*").split()) > 5
    assert (rule["labels"]["severity"] == "critical") == notice.startswith("*Critical.*")
    assert "\n2. " in steps


def test_the_runbook_names_deployments_and_secrets_that_there_are() -> None:
    """As production has them."""
    there = {(thing["kind"], thing["metadata"]["name"]) for thing in build(MANIFESTS / "overlays" / "prod")}
    text = "".join(section_of(rule["alert"]) for rule in RULES)
    deployments = set(re.findall(r"deploy[/ ](progress-stream-\w+)", text))

    assert deployments >= {"progress-stream-web", "progress-stream-worker"}
    assert {("Deployment", name) for name in deployments} <= there
    for secret in re.findall(r"Secret `([\w-]+)`", text):
        assert secret in {
            source["secretRef"]["name"]
            for pod in pod_specs(build(MANIFESTS / "overlays" / "prod")).values()
            for source in pod["containers"][0]["envFrom"]
            if "secretRef" in source
        }


def test_the_runbook_s_question_to_redis_is_answered(redis_server: RedisServer) -> None:
    """`True` where it is there, and why not where it is not; whatever kind of URL it is."""
    command = re.search(r'python -c \\\n +"(.+)"\n', section_of("ProgressStreamRedisAway"))
    assert command is not None

    def said(url: str) -> str:
        env = {**os.environ, "PROGRESS_STREAM_REDIS_URL": url}
        asked = subprocess.run(
            [sys.executable, "-c", command[1]],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return asked.stdout or asked.stderr

    assert "True\n" == said(redis_server.url())
    assert "refused" in said("redis://127.0.0.1:1/0")
    assert "no Sentinel names a primary" in said(f"redis+sentinel://127.0.0.1:{redis_server.port}/main/0")


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """By Prometheus' own test runner; every alert is tried both ways."""
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "no `promtool` on the PATH (Debian: prometheus)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    cases = yaml.safe_load(TESTS.read_text())["tests"]
    tried = [{case["alertname"] for case in one["alert_rule_test"]} for one in cases[:2]]
    assert [{rule["alert"] for rule in RULES}] * 2 == tried
    (tmp_path / "alerts.yaml").write_text(
        yaml.safe_dump({"groups": yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]})
    )
    shutil.copy(TESTS, tmp_path)
    checked = subprocess.run(
        [promtool, "test", "rules", TESTS.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == checked.returncode, checked.stdout + checked.stderr


def test_the_dashboard_s_expressions_can_be_parsed(tmp_path: Path) -> None:
    """As recording rules, with Grafana's own variables filled in."""
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "no `promtool` on the PATH (Debian: prometheus)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    texts = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    rules = [
        {
            "record": f"panel:{number}",
            "expr": text.replace("$__rate_interval", "1m").replace("$namespace", "x"),
        }
        for number, text in enumerate(texts)
    ]
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == checked.returncode, checked.stdout + checked.stderr
